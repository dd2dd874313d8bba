"""Who may speak with etcd: TLS, certificates, users and their rights; each mistake is said and loses nothing."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.store.etcd import Member

from routed.errors import EnvironmentFault, OperatorError
from routed.store import Event, KeyValue, Put
from routed.store.etcd import EtcdStore
from routed.store.etcd_links import Patience
from routed.store.etcd_url import parse

QUICK = Patience(call=3.0, attempt=2.0, connect=2.0)
MISTAKES = Patience(call=60.0)  # far more than a mistake takes to be found: it is not tried again


def openssl(*words: str, cwd: Path) -> None:
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


def _signed(directory: Path, name: str, authority: str) -> None:
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    openssl("req", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=directory)
    openssl(
        "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "extensions", cwd=directory,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca with server and client; other, an authority that nobody trusts, with stranger."""
    directory = tmp_path_factory.mktemp("pki")
    for name in ("ca", "other"):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        openssl("req", "-x509", *key, "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}", cwd=directory)
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        _signed(directory, name, authority)
    (directory / "right").write_text("secret\n")
    (directory / "wrong").write_text("guess\n")
    return directory


@pytest.fixture(scope="module")
def secured(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    options = ("--cert-file", f"{files}/server.pem", "--key-file", f"{files}/server.key", "--client-cert-auth",
               "--trusted-ca-file", f"{files}/ca.pem")  # fmt: skip
    with Member(tmp_path_factory.mktemp("tls"), tls=True, options=options) as made:
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member(tmp_path_factory.mktemp("plain")) as made:
        yield made


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Member]:
    """etcd with users: root, and routed, who may change what is below /ours/. Its tokens end after 2 s."""
    with Member(tmp_path, options=("--auth-token-ttl", "2")) as made:
        for words in (
            "user add root:rootpw", "user grant-role root root", "user add routed:secret", "role add routed",
            "role grant-permission routed --prefix=true readwrite /ours/", "user grant-role routed routed",
            "auth enable",
        ):  # fmt: skip
            made.ctl(*words.split())
        yield made


def got(url: str, patience: Patience = MISTAKES) -> KeyValue | None:
    async def main() -> KeyValue | None:
        store = EtcdStore(parse(url), patience)
        try:
            async with asyncio.timeout(30):
                return await store.get("/a")
        finally:
            await store.close()

    return asyncio.run(main())


def refused(url: str) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        got(url)
    assert caught.value.hint
    return caught.value


def test_certificates_on_both_sides_are_used(secured, files):
    tls = f"ca={files}/ca.pem&cert={files}/client.pem&key={files}/client.key"
    assert got(f"etcd://{secured.endpoint}?{tls}") is None


def test_a_member_of_another_authority_is_refused(secured, files):
    tls = f"ca={files}/other.pem&cert={files}/client.pem&key={files}/client.key"
    assert "its certificate is not good: unable to get" in refused(f"etcd://{secured.endpoint}?{tls}").message


def test_a_member_whose_certificate_has_another_name_is_refused(secured, files):
    tls = f"ca={files}/ca.pem&cert={files}/client.pem&key={files}/client.key"
    message = refused(f"etcd://localhost:{secured.port}?{tls}").message
    assert "Hostname mismatch" in message
    assert "localhost" in message


def test_a_missing_certificate_of_our_own_is_said(secured, files):
    error = refused(f"etcd://{secured.endpoint}?ca={files}/ca.pem")
    assert "TLS is refused" in error.message
    assert "cert=FILE" in str(error.hint)


def test_a_certificate_of_our_own_that_the_member_does_not_trust_is_said(secured, files):
    tls = f"ca={files}/ca.pem&cert={files}/stranger.pem&key={files}/stranger.key"
    assert "TLS is refused" in refused(f"etcd://{secured.endpoint}?{tls}").message


def test_a_member_with_tls_that_is_asked_without_is_recognised(secured):
    error = refused(f"etcd://{secured.endpoint}")
    assert "speaks TLS" in error.message
    assert "ca=FILE" in str(error.hint)


def test_a_member_without_tls_that_is_asked_with_it_is_recognised(plain, files):
    assert "does not speak TLS" in refused(f"etcd://{plain.endpoint}?ca={files}/ca.pem").message


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("ca=/nowhere/ca.pem", "/nowhere/ca.pem: No such file"),
        ("ca={files}/right", "{files}/right: "),
        ("ca={files}/ca.pem&cert={files}/client.pem&key=/nowhere/key", "/nowhere/key: No such file"),
        ("ca={files}/ca.pem&cert={files}/client.pem&key={files}/stranger.key", "{files}/stranger.key: "),
    ],
)
def test_a_file_that_is_missing_or_no_certificate_is_named(files, tls, said):
    assert said.format(files=files) in refused(f"etcd://127.0.0.1:9?{tls.format(files=files)}").message


def test_a_user_with_the_right_password_is_served_below_its_prefix(guarded, files):
    assert got(f"etcd://routed@{guarded.endpoint}/ours?password_file={files}/right") is None


def test_a_wrong_password_is_refused_and_not_repeated(guarded, files):
    error = refused(f"etcd://routed@{guarded.endpoint}/ours?password_file={files}/wrong")
    assert "invalid user ID or password" in error.message
    assert "guess" not in str(error)


def test_no_user_where_one_is_wanted_is_refused(guarded):
    assert "password_file" in str(refused(f"etcd://{guarded.endpoint}/ours").hint)


def test_a_place_that_the_user_may_not_read_is_refused_with_the_command_that_helps(guarded, files):
    error = refused(f"etcd://routed@{guarded.endpoint}/theirs?password_file={files}/right")
    assert "permission denied" in error.message
    assert "grant-permission" in str(error.hint)


def test_a_password_file_that_is_missing_is_named(guarded):
    error = refused(f"etcd://routed@{guarded.endpoint}?password_file=/nowhere/password")
    assert "/nowhere/password: No such file" in error.message


def test_a_user_where_none_is_wanted_does_no_harm(plain, files):
    assert got(f"etcd://routed@{plain.endpoint}/ours?password_file={files}/right") is None


def test_tokens_that_etcd_has_forgotten_are_made_anew_for_calls_and_for_watches(guarded, files):
    async def main() -> None:
        store = EtcdStore(parse(f"etcd://routed@{guarded.endpoint}/ours?password_file={files}/right"), QUICK)
        try:
            watch = store.watch("/w/", (await store.txn([], [Put("/a", b"1")])).revision + 1)
            guarded.kill()  # which ends all tokens
            guarded.up()
            following = asyncio.ensure_future(anext(watch))
            done = await store.txn([], [Put("/w/a", b"2")])
            async with asyncio.timeout(30):
                assert await following == [Event("/w/a", b"2", done.revision)]
            # a change of users makes every token too old
            guarded.ctl("user", "add", "more:pw", user="root:rootpw")
            assert (await store.txn([], [Put("/a", b"3")])).succeeded
        finally:
            await store.close()

    asyncio.run(main())


def test_a_right_that_is_taken_from_a_running_store_is_a_fault_until_it_is_given_back(guarded, files):
    async def main() -> None:
        store = EtcdStore(parse(f"etcd://routed@{guarded.endpoint}/ours?password_file={files}/right"), QUICK)
        try:
            await store.txn([], [Put("/a", b"1")])
            guarded.ctl("user", "revoke-role", "routed", "routed", user="root:rootpw")
            with pytest.raises(EnvironmentFault, match="permission denied"):
                await store.get("/a")
            guarded.ctl("user", "grant-role", "routed", "routed", user="root:rootpw")
            assert await store.get("/a") is not None
        finally:
            await store.close()

    asyncio.run(main())


def test_a_password_that_is_changed_under_a_running_store_is_a_fault_until_the_file_has_it(guarded, files, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret")

    async def main() -> None:
        store = EtcdStore(parse(f"etcd://routed@{guarded.endpoint}/ours?password_file={password}"), QUICK)
        try:
            await store.txn([], [Put("/a", b"1")])
            guarded.ctl("user", "passwd", "routed", "--interactive=false", user="root:rootpw", given="changed\n")
            with pytest.raises(EnvironmentFault, match="invalid user ID or password"):
                await store.get("/a")
            password.write_text("changed")
            found = await store.get("/a")
            assert found is not None
            assert found.value == b"1"
        finally:
            await store.close()

    asyncio.run(main())
