"""Children that receive signals as a command in a terminal does, however the tests were started."""

import signal

_IGNORED_IN_BACKGROUND = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def default_signals() -> None:
    """Give this process the default reaction to signals; for `preexec_fn` of a child.

    A script's background ignores SIGINT, and nohup SIGHUP; both are inherited.
    """
    for number in _IGNORED_IN_BACKGROUND:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
