"""What containerlab's format asks of a lab, on this machine's kernel: interfaces, namespaces, programs, stages."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from tests.waiting import until

from routed.errors import ConflictError, OperatorError, RoutedError
from routed_lab import topology
from routed_lab.runner.directory import RunDirectory
from routed_lab.runner.lab import Lab

NAME = f"format-{os.getpid()}"
Build = Callable[..., AbstractContextManager[Lab]]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Bring up the lab of some YAML below `topology`, and take it down again."""

    @contextmanager
    def of(text: str, head: str = "") -> Generator[Lab]:
        file = tmp_path / "lab.clab.yml"
        body = "".join(f"  {line}\n" for line in dedent(text).splitlines())
        file.write_text(f"name: {NAME}\n{head}topology:\n{body}")
        loaded = topology.load(file)
        with asyncio.Runner() as loop:
            lab = Lab(loaded, RunDirectory.claim(loaded.name, leftovers=True))
            try:
                loop.run(lab.up(lambda _: None))
                yield lab
            finally:
                loop.run(lab.down(lambda _: None))
        assert not list(Path("/run/netns").glob(f"*{NAME}*"))

    return of


def inside(lab: Lab, node: str, *argv: str) -> str:
    """The output of a command in the network namespace of a node."""
    done = subprocess.run(
        ["nsenter", f"--net={lab.namespace_of(node)}", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv} in {node}: {done.stderr or done.stdout}"
    return done.stdout


def refusal(build: Build, text: str, error: type[RoutedError] = OperatorError) -> str:
    """What is said of a lab that cannot come up."""
    with pytest.raises(error) as caught, build(text):
        pass
    return str(caught.value)


def link(lab: Lab, node: str, interface: str) -> str:
    return inside(lab, node, "ip", "-d", "link", "show", "dev", interface)


def test_a_bridge_carries_between_its_ports(build):
    with build("""\
        defaults: {kind: linux}
        nodes:
          sw: {kind: bridge}
          a: {exec: [ip address add 10.9.0.1/24 dev eth1]}
          b: {exec: [ip address add 10.9.0.2/24 dev eth1]}
        links:
          - endpoints: ["a:eth1", "sw:to-a"]
          - endpoints: ["sw:to-b", "b:eth1"]
            mtu: 2000
        """) as lab:
        inside(lab, "a", "ping", "-c1", "-W2", "10.9.0.2")

        assert "mtu 2000" in link(lab, "sw", "sw")
        assert "master sw" in link(lab, "sw", "to-a")
        assert "mtu 9500" in link(lab, "a", "eth1")


def test_a_node_may_hold_bridges_and_share_its_namespace(build):
    with build("""\
        defaults: {kind: linux}
        nodes:
          sw: {}
          br1|sw: {kind: bridge, network-mode: "container:sw"}
          br2|sw: {kind: bridge, network-mode: "container:sw"}
          side: {network-mode: "container:sw", exec: [ip address add 10.9.0.9/24 dev br1]}
          a: {network-mode: none, exec: [ip address add 10.9.0.1/24 dev eth1]}
        links:
          - endpoints: ["a:eth1", "br1|sw:p1"]
        """) as lab:
        inside(lab, "a", "ping", "-c1", "-W2", "10.9.0.9")

        assert lab.namespace_of("side") == lab.namespace_of("br2|sw") == lab.namespace_of("sw")
        assert "bridge" in link(lab, "sw", "br2")


def test_a_link_to_the_machine_is_marked_and_goes_with_the_lab(build):
    interface = f"t{os.getpid()}"
    with build(f"""\
        nodes: {{a: {{kind: linux}}}}
        links:
          - {{type: host, host-interface: {interface}, endpoint: {{node: a, interface: up, mac: "02:00:00:00:00:aa"}}}}
        """) as lab:
        assert f"alias routed lab {NAME}" in link(lab, "host", interface)
        assert "state UP" in link(lab, "a", "up")
        assert "02:00:00:00:00:aa" in link(lab, "a", "up")

    assert not Path(f"/sys/class/net/{interface}").exists()


def test_an_interface_of_the_machine_is_left_alone(build):
    interface = f"x{os.getpid()}"
    subprocess.run(["ip", "link", "add", interface, "type", "bridge"], check=True)
    try:
        said = refusal(
            build,
            f'nodes: {{a: {{kind: linux}}}}\nlinks: [{{endpoints: ["a:eth1", "host:{interface}"]}}]\n',
            ConflictError,
        )

        assert f"the machine has an interface {interface} already" in said
        assert Path(f"/sys/class/net/{interface}").exists()
    finally:
        subprocess.run(["ip", "link", "delete", interface], check=True)


def test_the_management_network_reaches_all_its_nodes(build):
    with build(
        """\
        defaults: {kind: linux}
        nodes:
          a: {mgmt-ipv4: 192.0.2.9}
          b: {}
          c: {network-mode: none}
        links:
          - {type: mgmt-net, host-interface: second, endpoint: {node: c, interface: eth5}}
        """,
        "mgmt: {ipv4-subnet: 192.0.2.0/24, ipv6-subnet: '2001:db8::/64'}\n",
    ) as lab:
        inside(lab, "b", "ping", "-c1", "-W2", "192.0.2.9")
        inside(lab, "b", "ping", "-c1", "-W2", "2001:db8::1")

        assert "192.0.2.2/24" in inside(lab, "b", "ip", "address", "show", "dev", "eth0")
        assert "master mgmt" in link(lab, "mgmt-net", "second")
        assert "eth0" not in inside(lab, "c", "ip", "link")


def test_programs_see_binds_env_and_sysctls_and_the_machine_does_not(build, tmp_path: Path):
    (tmp_path / "given").write_text("from the machine\n")
    directory = f"/opt/{NAME}"
    with build(f"""\
        nodes:
          a:
            kind: linux
            sysctls: {{net.ipv4.conf.all.rp_filter: 2}}
            env: {{GREETING: hello}}
            binds: ["given:{directory}/deep/file:ro", "{tmp_path}:{directory}/rw"]
            exec:
              - sh -c "cat {directory}/deep/file > {directory}/rw/out; echo $$GREETING >> {directory}/rw/out"
              - sh -c "! touch {directory}/deep/file"
        """) as lab:
        assert (tmp_path / "out").read_text() == "from the machine\nhello\n"
        assert inside(lab, "a", "cat", "/proc/sys/net/ipv4/conf/all/rp_filter") == "2\n"

    assert not Path(directory).exists()


def test_a_bind_within_a_bind_leaves_the_machines_directory_as_it_is(build, tmp_path: Path):
    (tmp_path / "outer/there").mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    (tmp_path / "file").write_text("bound\n")
    with build("""\
        nodes:
          a:
            kind: linux
            binds: ["inner:/mnt/there", "outer:/mnt:ro", "file:/mnt/new/file", "file:/mnt/there/file:ro"]
            exec:
              - grep -q bound /mnt/new/file
              - grep -q bound /mnt/there/file
              - touch /mnt/there/written
              - sh -c "! touch /mnt/there/file"
        """):
        assert sorted(path.name for path in (tmp_path / "outer").rglob("*")) == ["there"]
        assert (tmp_path / "inner/written").exists()  # a bind that may be written to is written to


def test_nodes_wait_for_one_anothers_stages(build, tmp_path: Path):
    note = f'sh -c "echo __clabNodeName__ >> {tmp_path}/order"'
    with build(f"""\
        defaults: {{kind: linux, exec: ['{note}']}}
        nodes:
          third: {{stages: {{create: {{wait-for: [{{node: second, stage: configure}}]}}}}}}
          second: {{stages: {{configure: {{wait-for: [{{node: first, stage: exit}}]}}}}}}
          first: {{cmd: 'sh -c "read -t 1 unused < /dev/zero; echo over >> {tmp_path}/order"'}}
          late: {{startup-delay: 1, stages: {{create: {{wait-for: [{{node: third, stage: healthy}}]}}}}}}
        """):
        order = (tmp_path / "order").read_text().split()

    assert order.index("over") < order.index("second") < order.index("third") < order.index("late")


def test_commands_of_stages_run_where_and_when_they_are_to(build, tmp_path: Path):
    with build(f"""\
        nodes:
          a:
            kind: linux
            exec: ['sh -c "echo exec >> {tmp_path}/order"']
            stages:
              configure:
                exec:
                  - {{command: 'sh -c "echo leave >> {tmp_path}/order"', phase: on-exit}}
                  - {{command: 'sh -c "echo enter >> {tmp_path}/order"'}}
                  - {{command: 'sh -c "readlink /proc/self/ns/net > {tmp_path}/where"', target: host}}
        """):
        assert (tmp_path / "order").read_text().split() == ["enter", "exec", "leave"]
        assert (tmp_path / "where").read_text().strip() == str(Path("/proc/self/ns/net").readlink())


def test_a_program_runs_as_long_as_the_lab(build, tmp_path: Path):
    def running() -> bool:
        """Whether a process that is called like the program is there: the node's own numbers say nothing here."""
        called = b"tail\0-f\0" + bytes(tmp_path / "started")
        return any(
            each.read_bytes().startswith(called) for each in Path("/proc").glob("[0-9]*/cmdline") if each.exists()
        )

    (tmp_path / "started").touch()
    with build(f"nodes: {{a: {{kind: linux, cmd: tail -f {tmp_path}/started}}}}"):
        until(running)

    assert not running()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("{cmd: no-such-program}", "node a runs no-such-program, which this machine lacks"),
        ("{exec: [ip link set nothing up]}", "exec of a: ip link set nothing up ended with status 1"),
        ("{sysctls: {net.ipv4.nothing: 1}}", 'cannot set the sysctl net.ipv4.nothing of a to "1": No such file'),
    ],
)
def test_what_a_node_cannot_have_is_told_and_nothing_remains(build, node: str, said: str):
    assert said in refusal(build, f"defaults: {{kind: linux}}\nnodes: {{a: {node}, b: {{cmd: sleep 600}}}}\n")


def test_a_namespace_that_is_anothers_stays_as_it_is(build):
    name = f"clab-{NAME}-b"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        said = refusal(build, "defaults: {kind: linux}\nnodes: {a: , b: }\n", ConflictError)

        assert f"{name} exists already and is not this lab's" in said
        assert not Path(f"/run/netns/clab-{NAME}-a").exists()
        assert Path(f"/run/netns/{name}").exists()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_lab_that_is_up_is_not_built_twice(build):
    said = f"the lab {NAME} is up on this kernel already"
    with build("nodes: {a: {kind: linux}}"), pytest.raises(ConflictError, match=said):
        RunDirectory.claim(NAME, leftovers=True)


def test_a_node_of_kind_host_is_the_machine_by_whatever_name(build, tmp_path: Path):
    with build(f"""\
        nodes:
          host: {{kind: host}}
          other: {{kind: host, exec: ['sh -c "readlink /proc/self/ns/net > {tmp_path}/where"']}}
          a: {{kind: linux}}
        links: [{{endpoints: ["a:eth1", "host:rf{os.getpid()}"]}}]
        """):
        machine = Path("/proc/self/ns/net")
        assert (tmp_path / "where").read_text().strip() == str(machine.readlink())
        assert Path(f"/sys/class/net/rf{os.getpid()}").exists()

    assert not Path(f"/sys/class/net/rf{os.getpid()}").exists()


def test_interfaces_on_the_machine_go_although_the_lab_did_not_come_up(build):
    said = refusal(
        build,
        f"""\
        defaults: {{kind: linux}}
        nodes: {{p: {{network-mode: host}}}}
        links:
          - endpoints: ["p:ra{os.getpid()}", "host:rb{os.getpid()}"]
          - endpoints: ["p:rc{os.getpid()}", "host:lo"]
        """,
        RoutedError,
    )

    assert "lo" in said
    assert not [*Path("/sys/class/net").glob(f"r[a-c]{os.getpid()}")]


def test_a_place_made_for_a_bind_hides_nothing_of_the_nodes_own_files(build, tmp_path: Path):
    (tmp_path / "new").write_text("new")
    with build(f"""\
        nodes:
          a:
            kind: linux
            binds: ["{tmp_path}/new:/var/newfile"]
            exec:
              - sh -c "echo said > /var/log/own"
              - sh -c "cat /var/newfile > {tmp_path}/seen"
        """):
        assert (tmp_path / "seen").read_text() == "new"

    assert not Path("/var/log/own").exists()
    assert not Path("/var/newfile").exists()
