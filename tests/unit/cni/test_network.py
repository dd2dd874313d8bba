from __future__ import annotations

import pytest

from routed_cni.faults import CniError
from routed_cni.network import Settings, delegate, settings

CONFIGURATION = {"cniVersion": "1.0.0", "name": "n", "type": "routed-cni"}
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Settings()),
        ({"mtu": 1400}, Settings(mtu=1400)),
        ({"mtu": 0}, Settings()),
        ({"container_settings": {"allow_ip_forwarding": True}}, Settings(forwarding=True)),
        ({"container_settings": {"allow_ip_forwarding": False}}, Settings(forwarding=False)),
        ({"ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}}, Settings(delegate="host-local")),
        ({"ipam": {}}, Settings()),
        ({"ipam": {"assign_ipv6": "false"}}, Settings()),
        ({"ipam": {"type": "calico-ipam", "ipv4_pools": ["pods"]}}, Settings()),
        ({"log_level": "Debug", "log_file_path": "/var/log/cni.log", "log_file_max_size": 10}, Settings()),
        ({"runtimeConfig": {"mac": "02:00:00:00:AB:01"}}, Settings(mac="02:00:00:00:ab:01")),
        (
            {"runtimeConfig": {ANNOTATIONS: {"cni.projectcalico.org/hwAddr": "02-00-00-00-00-01"}}},
            Settings(mac="02:00:00:00:00:01"),
        ),
    ],
)
def test_what_may_be_chosen(fields: dict[str, object], expected: Settings):
    assert settings({**CONFIGURATION, **fields}) == expected


@pytest.mark.spec("CNI 1.1.0", "1 Configuration.8")
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"runtimeConfig": {"mac": "", ANNOTATIONS: {}}, "mtu": 1},
            "mtu is 1",
        ),
        ({"mtu": 67}, "mtu is 67"),
        ({"mtu": 65536}, "mtu is 65536"),
        ({"mtu": True}, "mtu is true"),
        ({"mtu": "1400"}, 'mtu is "1400"'),
        ({"log_level": "loud"}, 'log_level is "loud"'),
        ({"container_settings": []}, "container_settings is []"),
        ({"container_settings": {"allow_ip_forwarding": 1}}, "container_settings.allow_ip_forwarding is 1"),
        ({"container_settings": {"sysctl": 1}}, "unsupported field container_settings.sysctl = 1"),
        ({"ipam": {"type": "../sh"}}, 'ipam is {"type":"../sh"}'),
        ({"ipam": "host-local"}, 'ipam is "host-local"'),
        (
            {"ipam": {"type": "dhcp"}},
            "ipam.type dhcp can give no addresses to routed pods: each pod's link ends at the",
        ),
        ({"runtimeConfig": {"mac": "02:00:00:00:00"}}, 'runtimeConfig.mac is "02:00:00:00:00"'),
        ({"runtimeConfig": {"mac": "01:00:00:00:00:00"}}, 'runtimeConfig.mac is "01:00:00:00:00:00"'),
        ({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}, 'runtimeConfig.mac is "00:00:00:00:00:00"'),
        (
            {"runtimeConfig": {ANNOTATIONS: {"cni.projectcalico.org/hwAddr": "me"}}},
            'annotation cni.projectcalico.org/hwAddr is "me"',
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_value(fields: dict[str, object], told: str):
    with pytest.raises(CniError) as caught:
        settings({**CONFIGURATION, **fields})
    assert told in caught.value.msg
    assert caught.value.code in (2, 7)


def test_the_argument_mac_counts_where_the_capability_is_not_given():
    """CNI conventions, CNI_ARGS: `MAC`, which podman writes."""
    asked, annotated = (
        {"MAC": "02:00:00:00:00:02"},
        {ANNOTATIONS: {"cni.projectcalico.org/hwAddr": "02:00:00:00:00:03"}},
    )
    assert settings({**CONFIGURATION, "runtimeConfig": annotated}, asked).mac == "02:00:00:00:00:02"
    assert settings({**CONFIGURATION, "runtimeConfig": {"mac": "02:00:00:00:00:01"}}, asked).mac == "02:00:00:00:00:01"
    with pytest.raises(CniError, match='MAC in CNI_ARGS is "x"'):
        settings(CONFIGURATION, {"MAC": "x"})


def test_a_hundred_thousand_bytes_of_annotations_are_read_like_a_few():
    annotations = {f"a{number}": "x" * 100 for number in range(1000)}
    assert settings({**CONFIGURATION, "runtimeConfig": {ANNOTATIONS: annotations}}) == Settings()


def test_a_delete_takes_a_wrong_ipam_for_none():
    """Section 2, DEL: it "should generally complete without error"."""
    assert delegate({"ipam": 7}) == delegate({"ipam": {"type": "dhcp"}}) == ""
    assert delegate({"ipam": {"type": "host-local"}}) == "host-local"
