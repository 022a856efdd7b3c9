from collections.abc import Callable

import pytest
from margin_cache.audit.script import run
from margin_cache.errors import FINAL, MarginCacheError


def failing(error: Exception) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_that_of_the_work(code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        run(lambda: code)
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (MarginCacheError("a: is wrong"), [FINAL, "error: a: is wrong"]),
        (FileNotFoundError(2, "No such file", "a/b"), ["error: a/b: No such file"]),
    ],
)
def test_an_error_is_a_line(
    error: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(failing(error))
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == lines
