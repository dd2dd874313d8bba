"""podman 4 with its CNI backend: containers on routed's network, as a person without Kubernetes has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel.cni.node import Node, ping, run
from tests.kernel.runtime.podman import Podman

from routed_cni.install import chain, write_conflist


@pytest.fixture
def podman(node: Node, tmp_path: Path) -> Iterator[Podman]:
    for kind in ("portmap", "bandwidth"):
        (tmp_path / "bin" / kind).symlink_to(f"/usr/lib/cni/{kind}")
    write_conflist(tmp_path / "net.d", behind=chain(tmp_path / "bin"))
    made = Podman(tmp_path / "podman", node.name, tmp_path / "bin", tmp_path / "net.d")
    try:
        yield made
    finally:
        made.close()


def test_containers_reach_each_other_are_restarted_and_leave_nothing(node: Node, podman: Podman):
    podman.run("one")
    podman.run("two", "--mac-address", "02:00:00:00:00:22", "--ip", "10.9.0.33")
    one, two = podman.network("one"), podman.network("two")
    assert (one["IPPrefixLen"], two["IPAddress"], two["MacAddress"]) == (32, "10.9.0.33", "02:00:00:00:00:22")
    assert ping(one["namespace"], "10.9.0.33").received == 3
    podman.ok("restart", "--time", "0", "two")
    assert ping(one["namespace"], "10.9.0.33").received == 3
    podman.ok("rm", "--force", "--time", "0", "one", "two")
    node.settled()


def test_a_published_port_leads_to_the_container(node: Node, podman: Podman):
    run("ip", "-n", node.name, "link", "set", "lo", "up")
    run("ip", "-n", node.name, "addr", "add", "192.0.2.1/32", "dev", "lo")
    (podman.root / "tmp" / "hello").write_text("hello")
    podman.run("web", "--publish", "18081:80", command=("httpd", "-f", "-p", "80", "-h", "/tmp"))
    asked = ("curl", "-s", "--retry", "9", "--retry-connrefused", "--retry-delay", "1", "http://192.0.2.1:18081/hello")
    assert run("nsenter", f"--net=/run/netns/{node.name}", *asked) == "hello"


@pytest.mark.spec("CNI 1.1.0", "3 Lifecycle.5")
def test_a_container_that_cannot_be_wired_does_not_start_and_podman_says_why(node: Node, podman: Podman):
    done = podman.call(*podman.words("odd", "--ip", "10.99.0.1"))
    assert done.returncode != 0
    assert "10.99.0.1 is in no block" in done.stderr
    podman.close()
    node.settled()
