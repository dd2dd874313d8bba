"""What an etcd URL may say, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.errors import OperatorError
from routed.store.etcd_url import Endpoint, EtcdUrl, Tls, parse


def test_a_host_alone_has_etcds_port_no_prefix_and_no_tls():
    assert parse("etcd://a.example") == EtcdUrl((Endpoint("a.example", 2379),))


def test_everything_that_can_be_said():
    url = "etcd://me@10.0.0.1:2379,[fd00::1]:12379/some/place?ca=/ca.pem&cert=/c.pem&key=/k.pem&password_file=/secret"
    assert parse(url) == EtcdUrl(
        (Endpoint("10.0.0.1", 2379), Endpoint("fd00::1", 12379)),
        "/some/place",
        "me",
        Path("/secret"),
        Tls(Path("/ca.pem"), Path("/c.pem"), Path("/k.pem")),
    )


def test_an_address_of_ipv6_is_printed_with_its_brackets():
    assert [str(each) for each in parse("etcd://[fd00::1],a").endpoints] == ["[fd00::1]:2379", "a:2379"]


def test_a_slash_at_the_end_names_no_other_prefix():
    assert parse("etcd://a/p/").prefix == "/p"
    assert parse("etcd://a/").prefix == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("etcd://", "'' is no HOST:PORT"),
        ("etcd://a,,b", "'' is no HOST:PORT"),
        ("etcd:///prefix", "'' is no HOST:PORT"),
        ("etcd://a:0", "port from 1 to 65535"),
        ("etcd://a:99999", "port from 1 to 65535"),
        ("etcd://fd00::1", "'fd00::1' is no HOST:PORT"),
        ("etcd://a?ssl=yes", "unknown option 'ssl'; known are ca, cert"),
        ("etcd://a?ca=ca.pem", "ca=ca.pem: expected an absolute path"),
        ("etcd://a?ca=/a&ca=/b", "ca is given twice"),
        ("etcd://a?ca=/a&cert=/b", "cert and key go together"),
        ("etcd://a?cert=/a&key=/b", "needs ca"),
        ("etcd://me@a", "user and password_file go together"),
        ("etcd://a?password_file=/p", "user and password_file go together"),
        ("etcd://a/x//y", "empty part"),
        ("etcd://a#b", "is no URL of etcd"),
        ("etcd:a", "is no URL of etcd"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(url, said):
    with pytest.raises(OperatorError) as caught:
        parse(url)
    assert said in caught.value.message
    assert caught.value.hint


def test_a_password_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(OperatorError, match="password_file") as caught:
        parse("etcd://me:hunter2@a:2379")
    assert "hunter2" not in str(caught.value)
