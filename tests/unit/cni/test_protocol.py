from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.errors import OperatorError
from routed.model.address import Family
from routed_cni import shim
from routed_cni.faults import CniError, Code
from routed_cni.network import VERSIONS, Settings
from routed_cni.protocol import Command, Request, check_socket_path, decode, requested_version
from routed_cni.results import Attachment, encode_error, encode_result, encode_version

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c0ffee",
    "CNI_NETNS": "/run/netns/pod",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIGURATION = {"cniVersion": "1.0.0", "name": "routed", "type": "routed-cni"}


def payload(configuration: object = CONFIGURATION, **changes: str | None) -> bytes:
    environment = {key: value for key, value in {**ENVIRONMENT, **changes}.items() if value is not None}
    stdin = configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
    return b"\0".join(f"{key}={value}".encode() for key, value in environment.items()) + b"\0\0" + stdin


def refusal(data: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        decode(data)
    return caught.value


def test_an_add_is_read_whole():
    assert decode(payload()) == Request(
        Command.ADD,
        "1.0.0",
        "routed",
        "c0ffee",
        "eth0",
        "/run/netns/pod",
        {"IgnoreUnknown": "1", "K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web"},
    )


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_configurations_of_these_versions_are_accepted(version: str):
    assert decode(payload({**CONFIGURATION, "cniVersion": version})).version == version


@pytest.mark.spec("CNI 1.1.0", "5 Error.2")
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "2.0.0", "", 1, None])
def test_other_versions_are_refused_with_the_supported_ones(version: object):
    error = refusal(payload({**CONFIGURATION, "cniVersion": version}))
    assert (error.code, error.details) == (Code.INCOMPATIBLE_VERSION, "supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")


def test_a_missing_version_is_an_incompatible_one():
    assert refusal(payload({"name": "n", "type": "t"})).code == Code.INCOMPATIBLE_VERSION


@pytest.mark.spec("CNI 1.1.0", "2 ADD.6", "5 Error.5")
def test_all_missing_variables_are_named_at_once():
    error = refusal(payload(CNI_CONTAINERID=None, CNI_NETNS="", CNI_IFNAME=None))
    assert (error.code, error.msg) == (4, "ADD needs CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS")


@pytest.mark.parametrize("command", [None, "", "UPDATE", "add", "\nADD"])
def test_a_missing_or_unknown_command_is_an_invalid_environment(command: str | None):
    error = refusal(payload(CNI_COMMAND=command))
    assert error.code == 4
    assert "CNI_COMMAND" in error.msg


@pytest.mark.spec("CNI 1.1.0", "2 Parameters.1")
@pytest.mark.parametrize("container", ["-a", "a/b", "a b", "a\n", "ä", ".."])
def test_a_container_id_of_other_characters_is_refused(container: str):
    error = refusal(payload(CNI_CONTAINERID=container))
    assert (error.code, "CNI_CONTAINERID" in error.msg) == (4, True)


@pytest.mark.spec("CNI 1.1.0", "2 Parameters.2")
@pytest.mark.parametrize(
    "name", ["a" * 16, "é" * 8, ".", "..", "a/b", "a:b", "a b", "a\t", "eth%d", "a\x7f", "a\u2028"]
)
def test_an_interface_name_that_the_kernel_would_not_take_is_refused(name: str):
    error = refusal(payload(CNI_IFNAME=name))
    assert (error.code, "CNI_IFNAME" in error.msg) == (4, True)


@pytest.mark.parametrize("name", ["eth0", "a" * 15, "é" * 7, "eth0.100", "a-b_c@d"])
def test_an_interface_name_that_the_kernel_takes_is_accepted(name: str):
    assert decode(payload(CNI_IFNAME=name)).interface == name


@pytest.mark.parametrize("stdin", [b"", b"{", b"\xff", b"[1", b"{}}", b"[" * 100_000])
def test_what_is_not_json_is_a_decode_failure(stdin: bytes):
    assert refusal(payload(stdin)).code == Code.DECODE_FAILURE


@pytest.mark.parametrize("configuration", [[], 1, None, "x"])
def test_json_that_is_no_object_is_an_invalid_configuration(configuration: object):
    assert refusal(payload(json.dumps(configuration).encode())).code == Code.INVALID_CONFIGURATION


@pytest.mark.spec("CNI 1.1.0", "1 Configuration.1", "1 Configuration.5")
@pytest.mark.parametrize("change", [{"name": ""}, {"name": 7}, {"name": "a/b"}, {"type": None}, {"type": ""}])
def test_a_wrong_name_or_type_is_an_invalid_configuration_that_names_the_field(change: dict[str, object]):
    error = refusal(payload({**CONFIGURATION, **change}))
    assert error.code == Code.INVALID_CONFIGURATION
    assert error.msg.startswith(next(iter(change)))


@pytest.mark.spec("CNI 1.1.0", "1 Configuration.7", "5 Error.3")
@pytest.mark.parametrize(
    ("field", "value"), [("ipMasq", True), ("bridge", "cni0"), ("policy", {"type": "k8s"}), ("networkScaling", True)]
)
def test_a_field_that_asks_for_what_is_not_done_is_refused_by_name_and_value(field: str, value: object):
    """Section 5, Error, code 2: "the error message must contain the key and value of the unsupported field"."""
    error = refusal(payload({**CONFIGURATION, field: value}))
    told = json.dumps(value, separators=(",", ":"))
    assert (error.code, error.msg) == (2, f"network routed: unsupported field {field} = {told}")


@pytest.mark.spec("CNI 1.1.0", "3 Deriving.3")
def test_fields_that_every_plugin_knows_and_arguments_for_others_are_accepted():
    """Section 1: `args` "should be ignored by plugins if not understood"; the runtime strips or adds the others."""
    known = {
        "args": {"labels": []},
        "capabilities": {"portMappings": True},
        "dns": {"nameservers": ["10.0.0.1"]},
        "ipMasq": False,
        "runtimeConfig": {"portMappings": []},
        "prevResult": {"cniVersion": "1.0.0"},
    }
    request = decode(payload({**CONFIGURATION, **known}))
    assert (request.settings, request.previous) == (Settings(dns=known["dns"]), known["prevResult"])


@pytest.mark.spec("CNI 1.1.0", "2 DEL.4")
def test_a_delete_needs_no_namespace_and_bears_any_field_and_argument():
    configuration = {**CONFIGURATION, "prevResult": {"x": []}, "runtimeConfig": {}, "odd": 1}
    request = decode(payload(configuration, CNI_COMMAND="DEL", CNI_NETNS="", CNI_ARGS=";=;broken"))
    assert (request.command, request.container_id, request.netns) == (Command.DEL, "c0ffee", "")


def test_wrong_arguments_are_refused_on_add():
    assert refusal(payload(CNI_ARGS="a=b;broken")).code == 4


NEWEST = {**CONFIGURATION, "cniVersion": "1.1.0"}


def test_status_needs_no_names():
    """Section 2, STATUS: of the variables only CNI_COMMAND is required; containerd 2 sends the others empty."""
    request = decode(payload(NEWEST, CNI_COMMAND="STATUS", CNI_CONTAINERID="", CNI_NETNS="", CNI_IFNAME=""))
    assert request.command is Command.STATUS


@pytest.mark.parametrize(
    ("command", "version"), [("CHECK", "0.3.1"), ("STATUS", "1.0.0"), ("GC", "1.0.0"), ("GC", "0.3.0")]
)
def test_a_command_that_its_version_does_not_have_is_refused(command: str, version: str):
    """CHECK came with 0.4.0, GC and STATUS with 1.1.0."""
    fields = {**CONFIGURATION, "cniVersion": version, "prevResult": {}, "cni.dev/valid-attachments": []}
    error = refusal(payload(fields, CNI_COMMAND=command))
    assert (error.code, f"{command} is not in cniVersion {version}" in error.msg) == (1, True)


@pytest.mark.spec("CNI 1.1.0", "2 CHECK.9", "2 CHECK.10")
def test_check_needs_the_namespace_and_the_result_of_add():
    """Section 2, CHECK: required are CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and `prevResult`."""
    assert refusal(payload(CNI_COMMAND="CHECK", CNI_NETNS="")).msg == "CHECK needs CNI_NETNS"
    assert refusal(payload(CNI_COMMAND="CHECK")).msg == "prevResult is missing"
    assert decode(payload({**CONFIGURATION, "prevResult": {"ips": []}}, CNI_COMMAND="CHECK")).previous == {"ips": []}


@pytest.mark.spec("CNI 1.1.0", "2 GC.7")
def test_gc_names_what_is_valid_and_needs_no_interface():
    """Section 2, GC: required are CNI_COMMAND, CNI_PATH and `cni.dev/valid-attachments`."""
    listed = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1", "more": 1}]
    fields = {**NEWEST, "cni.dev/valid-attachments": listed}
    request = decode(payload(fields, CNI_COMMAND="GC", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None))
    assert request.valid == {("a", "eth0"), ("b", "net1")}


WRONG_LISTS: list[object] = [{}, "all", ["a"], [{"containerID": "a"}], [{"containerID": 1, "ifname": "e"}]]


@pytest.mark.spec("CNI 1.1.0", "2 GC.6")
@pytest.mark.parametrize(
    "fields",
    [{}, *({"cni.dev/valid-attachments": listed} for listed in WRONG_LISTS)],
    ids=["missing", *map(str, WRONG_LISTS)],
)
def test_gc_without_a_whole_list_is_refused_as_it_would_take_pods_away(fields: dict[str, object]):
    error = refusal(payload({**NEWEST, **fields}, CNI_COMMAND="GC"))
    assert (error.code, "cni.dev/valid-attachments" in error.msg) == (7, True)


@pytest.mark.parametrize("listed", [[], None])
def test_gc_without_any_valid_attachment_keeps_none(listed: object):
    """libcni writes an empty list of Go as null."""
    assert decode(payload({**NEWEST, "cni.dev/valid-attachments": listed}, CNI_COMMAND="GC")).valid == frozenset()


@pytest.mark.spec("CNI 1.1.0", "2 VERSION.2")
def test_version_needs_nothing():
    assert decode(b"CNI_COMMAND=VERSION\0\0").command is Command.VERSION


def test_an_empty_last_variable_and_a_stdin_of_nuls_are_told_apart():
    assert refusal(b"CNI_COMMAND=ADD\0CNI_CONTAINERID=c\0CNI_IFNAME=e\0CNI_NETNS=/n\0CNI_ARGS=\0\0\0").code == 6


@pytest.mark.parametrize("data", [b"", b"CNI_COMMAND=ADD", b"CNI_COMMAND=ADD\0CNI_IFNAME=e"])
def test_a_request_without_end_of_variables_is_a_decode_failure(data: bytes):
    assert refusal(data).code == Code.DECODE_FAILURE


@pytest.mark.parametrize("data", [b"PATH=/bin\0\0{}", b"CNI_COMMAND\0\0{}", b"CNI_COMMAND=\xff\0\0{}"])
def test_a_variable_that_is_none_of_cni_is_refused(data: bytes):
    assert refusal(data).code == Code.INVALID_ENVIRONMENT


ATTACHMENT = Attachment(
    "rtd0123456789a", "ee:ee:ee:ee:ee:ee", "eth0", "02:00:00:00:00:01", "/n", (IPv4Address("10.1.0.1"),), 1480
)


def test_a_result_with_both_families_has_a_route_for_each():
    both = replace(ATTACHMENT, addresses=(IPv4Address("10.1.0.1"), IPv6Address("fd00::1")))
    result = json.loads(encode_result("1.0.0", both))
    assert result["ips"] == [
        {"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1},
        {"address": "fd00::1/128", "gateway": "fe80::ecee:eeff:feee:eeee", "interface": 1},
    ]
    assert result["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def test_a_result_has_no_default_route_that_another_interface_has():
    result = json.loads(encode_result("1.0.0", replace(ATTACHMENT, default=frozenset[Family]())))
    assert result["routes"] == []


@pytest.mark.spec("CNI 1.1.0", "2 ADD.3", "5 Success.6")
def test_the_result_of_an_earlier_plugin_is_passed_on_with_ours_behind():
    """Section 2, ADD: a plugin that is given `prevResult` passes it through, or modifies it."""
    before = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "tap0"}],
        "ips": [{"address": "10.9.0.1/24", "interface": 0}],
        "routes": [{"dst": "10.8.0.0/16"}],
        "dns": {"nameservers": ["10.0.0.1"]},
        "odd": True,
    }
    result = json.loads(encode_result("1.0.0", ATTACHMENT, before))
    assert [each["name"] for each in result["interfaces"]] == ["tap0", "rtd0123456789a", "eth0"]
    assert result["ips"] == [
        {"address": "10.9.0.1/24", "interface": 0},
        {"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 2},
    ]
    assert result["routes"] == [{"dst": "10.8.0.0/16"}, {"dst": "0.0.0.0/0"}]
    assert (result["dns"], result["odd"]) == (before["dns"], True)


def test_dns_of_the_configuration_is_in_the_result():
    """Section 5, Success: `dns`."""
    told = {"nameservers": ["10.0.0.53"]}
    assert json.loads(encode_result("1.0.0", replace(ATTACHMENT, dns=told)))["dns"] == told


@pytest.mark.spec("CNI 1.1.0", "5 Success.1")
def test_a_result_of_version_1_0_0():
    assert json.loads(encode_result("1.0.0", ATTACHMENT)) == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "rtd0123456789a", "mac": "ee:ee:ee:ee:ee:ee"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/n"},
        ],
        "ips": [{"address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    }


@pytest.mark.spec("CNI 1.1.0", "5 Success.1", "5 Success.2")
@pytest.mark.parametrize(
    ("version", "ip_version", "mtu"),
    [("0.3.0", "4", None), ("0.3.1", "4", None), ("0.4.0", "4", None), ("1.1.0", None, 1480)],
)
def test_what_differs_in_results_of_other_versions(version: str, ip_version: str | None, mtu: int | None):
    result = json.loads(encode_result(version, ATTACHMENT))
    assert (result["cniVersion"], result["ips"][0].get("version")) == (version, ip_version)
    assert [interface.get("mtu") for interface in result["interfaces"]] == [mtu, mtu]


@pytest.mark.spec("CNI 1.1.0", "5 Error.1")
def test_an_error_has_code_message_and_details():
    error = CniError(Code.TRY_AGAIN_LATER, 'a "quoted" one', "later")
    assert json.loads(encode_error("0.4.0", error)) == {
        "cniVersion": "0.4.0",
        "code": 11,
        "msg": 'a "quoted" one',
        "details": "later",
    }


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (payload({**CONFIGURATION, "cniVersion": "0.3.1", "name": 1}), "0.3.1"),
        (payload({"cniVersion": "9"}), "1.0.0"),
        (b"", "1.0.0"),
    ],
)
def test_an_error_is_answered_in_the_version_asked_for_where_that_is_known(data: bytes, version: str):
    assert requested_version(data) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plugin_tells_the_same_of_versions_as_the_agent(version: str):
    asked = b'CNI_COMMAND=VERSION\0\0{"cniVersion":"%s"}' % version.encode()
    assert shim.version(asked)[1:] == encode_version(decode(asked).version)
    assert json.loads(encode_version(version)) == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize("path", ["relative", "/" + "a" * 107, "/a\nb"])
def test_a_path_that_cannot_be_a_socket_is_refused(path: str):
    with pytest.raises(OperatorError, match="run_dir"):
        check_socket_path(Path(path))


def test_the_longest_path_of_a_socket_is_accepted():
    check_socket_path(Path("/" + "a" * 106))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


FIELDS = [
    "args", "cni.dev/valid-attachments", "cniVersion", "container_settings", "dns", "ipam", "log_level", "mtu", "name",
    "prevResult", "runtimeConfig", "type",
]  # fmt: skip


def only_a_cni_error(data: bytes) -> None:
    """Whatever the bytes: a whole request, or an error that can be told."""
    try:
        outcome: Request | CniError = decode(data)
    except CniError as error:
        outcome = error
    if isinstance(outcome, CniError):
        assert json.loads(encode_error(requested_version(data), outcome))["code"] == outcome.code
    elif outcome.command is Command.ADD:
        assert all((outcome.container_id, outcome.interface, outcome.netns, outcome.network))
        assert outcome.version in VERSIONS


@given(st.binary(max_size=300))
def test_no_bytes_make_the_decoder_fail_otherwise_than_with_a_cni_error(data: bytes):
    only_a_cni_error(data)


@given(
    st.dictionaries(
        st.sampled_from([*ENVIRONMENT, "CNI_ODD"]), st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    ),
    st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_no_variables_or_json_make_the_decoder_fail_otherwise(changes: dict[str, str], fields: dict[str, object]):
    only_a_cni_error(payload({**CONFIGURATION, **fields}, **changes))
    only_a_cni_error(payload({**CONFIGURATION, **fields}))
