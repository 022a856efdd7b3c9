"""The keys about mail: recipients, server, and error messages."""

from typing import Any

import pytest
from margin_cache.config.model import SMTP_PASSWORD, SMTP_USER, MailSettings, SmtpSettings
from margin_cache.config.validation import mail_settings, settings_of_margins
from margin_cache.errors import MarginCacheError

PASSWORD = "hunter2-s3cret"
ALL = ("one@example.org", "two@example.org")


def settings_for(smtp: dict[str, Any], recipients: tuple[str, ...] = ALL) -> MailSettings:
    config = {"completion_email_address": ", ".join(recipients), "smtp": smtp}
    settings = mail_settings(config)
    assert settings is not None
    return settings


def refusal(config: dict[str, Any]) -> str:
    """The error line for a configuration, the same from each function that reads it."""
    with pytest.raises(MarginCacheError) as caught:
        mail_settings(config)
    with pytest.raises(MarginCacheError) as again:
        settings_of_margins(config)
    message = str(caught.value)
    assert str(again.value) == message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("config", [{}, {"completion_email_address": ""}, {"smtp": {"port": 26}}])
def test_no_address_means_no_mail(config):
    assert mail_settings(config) is None


def test_defaults_of_the_server():
    settings = mail_settings({"completion_email_address": "one@example.org"})
    assert settings == MailSettings(("one@example.org",), SmtpSettings("localhost", 25, "none", ""))


@pytest.mark.parametrize(
    "given",
    [
        ["one@example.org", "two@example.org"],
        ["one@example.org, two@example.org"],
        "one@example.org,two@example.org",
    ],
)
def test_several_addresses_are_a_list_or_separated_by_commas(given):
    settings = mail_settings({"completion_email_address": given})
    assert settings is not None and settings.recipients == ALL


@pytest.mark.parametrize(("security", "port"), [("none", 25), ("starttls", 587), ("ssl", 465)])
def test_port_goes_by_the_security(security, port):
    assert settings_for({"security": security}).server.port == port
    assert settings_for({"security": security, "port": 2525}).server.port == 2525


def test_server_is_understood_as_snakemake_hands_it_on_from_the_command_line():
    assert settings_for({"port": "26"}).server.port == 26


def test_addresses_are_separated_by_commas_and_counted_once():
    text = "one@example.org,two@example.org ,  one@example.org, a.b+c@localhost"
    settings = mail_settings({"completion_email_address": text})
    assert settings.recipients == (*ALL, "a.b+c@localhost")


@pytest.mark.parametrize(
    "address",
    [
        "somebody",
        "one@example.org;two@example.org",
        "one@example.org two@example.org",
        "one@example.org,",
        ",",
        "One <one@example.org>",
        "one@@example.org",
        "one@[127.0.0.1]",
        "ö@example.org",
        "one@example.org\n",
        "one@example.org\nBcc: two@example.org",
        "one@example.org\r\nBcc: two@example.org",
        "one@example.org,\ntwo@example.org",
        "one@example.org\u2028",
        "one\0@example.org",
        "one@example.org\r\nDATA",
    ],
)
def test_what_is_no_address_is_refused(address):
    config = {"completion_email_address": address}
    assert refusal(config).startswith("completion_email_address: ")
    if "," not in address:
        assert refusal({"smtp": {"sender": address}}).startswith("smtp.sender: ")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"completion_email_address": "somebody"}, ('"somebody"', "is not an address", "commas")),
        ({"completion_email_address": None}, ("completion_email_address", "has no value")),
        (
            {"completion_email_address": {"to": 1}},
            ("completion_email_address", "be text or a list"),
        ),
        ({"completion_email_address": ["a@example.org", 5]}, ('"5"', "is not an address")),
        ({"completion_email_address": [["a@example.org"]]}, ("completion_email_address", "text")),
        ({"smtp": "mail.example.org"}, ("smtp", "should be a mapping")),
        ({"smtp": None}, ("smtp", "has no value")),
        ({"smtp": {"host": ""}}, ("smtp.host", "at least 1 character")),
        ({"smtp": {"host": None}}, ("smtp.host", "has no value")),
        ({"smtp": {"host": "mail server"}}, ("smtp.host", '"mail server"', "host")),
        ({"smtp": {"host": "localhost\n"}}, ("smtp.host", "host")),
        ({"smtp": {"port": 0}}, ("smtp.port: 0 should be greater than or equal to 1",)),
        ({"smtp": {"port": 65536}}, ("smtp.port: 65536", "65535")),
        ({"smtp": {"port": "smtp"}}, ("smtp.port", "integer")),
        ({"smtp": {"port": "99999"}}, ("smtp.port", "99999", "65535")),
        ({"smtp": {"port": float("inf")}}, ("smtp.port",)),
        ({"smtp": {"security": "tls"}}, ("smtp.security", '"tls"', "'none', 'starttls' or 'ssl'")),
        ({"smtp": {"security": False}}, ("smtp.security", "'none', 'starttls' or 'ssl'")),
        ({"smtp": {"prt": 25}}, ("smtp.prt", "unknown key", "port?")),
        ({"margins": [{"smtp": {}}]}, ("margins[0]: smtp", "beside margins")),
        (
            {"margins": [{}, {"completion_email_address": ""}]},
            ("margins[1]: completion_email_address", "beside margins"),
        ),
    ],
)
def test_faulty_configuration_is_refused(config, words):
    try:
        message = refusal(config)
    except pytest.fail.Exception:  # mail_settings does not look at margins
        with pytest.raises(MarginCacheError) as caught:
            settings_of_margins(config)
        message = str(caught.value)
    for word in words:
        assert word in message


@pytest.mark.parametrize(("key", "variable"), [("user", SMTP_USER), ("password", SMTP_PASSWORD)])
def test_secret_in_the_configuration_is_refused_and_not_repeated(key, variable):
    message = refusal({"smtp": {key: PASSWORD}})
    assert f"smtp.{key}" in message
    assert variable in message
    assert PASSWORD not in message


def test_mail_is_no_part_of_the_settings_of_a_margin():
    config = {"completion_email_address": "one@example.org", "smtp": {"port": 2525}}
    assert settings_of_margins(config) == settings_of_margins({})
