"""Three routers in a row, each of another make, on this machine's own kernel: FRR from a stock recipe, BIRD, GoBGP."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from routed_lab import topology
from routed_lab.runner.validation import validate

TOPOLOGIES = Path(__file__).parents[3] / "topologies"
NAME = f"row-{os.getpid()}"
MINUTE = 60.0

TOPOLOGY = f"""\
name: {NAME}
topology:
  defaults: {{kind: linux}}
  nodes:
    left:
      image: frrouting/frr:v8.4.1
      binds: [left/daemons:/etc/frr/daemons, left/frr.conf:/etc/frr/frr.conf]
      exec: [ip address add 10.0.1.1/24 dev eth1]
    middle:
      labels: {{routed.role: router, routed.config: middle.conf}}
      exec: [ip address add 10.0.1.2/24 dev eth1, ip address add 10.0.2.2/24 dev eth2]
    right:
      labels: {{routed.role: router, routed.router: gobgp, routed.config: right.toml}}
      exec: [ip address add 10.0.2.3/24 dev eth1]
  links:
    - endpoints: ["left:eth1", "middle:eth1"]
    - endpoints: ["middle:eth2", "right:eth1"]
"""

DAEMONS = 'bgpd=yes\nospfd=no\nvtysh_enable=yes\nbgpd_options="  --daemon -A 127.0.0.1"\n'

LEFT = """\
frr defaults datacenter
hostname left
ip route 10.77.1.0/24 blackhole
router bgp 65001
 no bgp ebgp-requires-policy
 neighbor 10.0.1.2 remote-as 65002
 neighbor 10.0.1.2 timers connect 1
 address-family ipv4 unicast
  network 10.77.1.0/24
 exit-address-family
exit
"""

MIDDLE = """\
log stderr all;
router id 10.0.0.2;
protocol device {}
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol static { ipv4; route 10.77.2.0/24 blackhole; }
template bgp peer {
  local as 65002;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export all; };
}
protocol bgp left from peer { neighbor 10.0.1.1 as 65001; }
protocol bgp right from peer { neighbor 10.0.2.3 as 65003; }
"""

RIGHT = """\
[global.config]
as = 65003
router-id = "10.0.0.3"
[[neighbors]]
[neighbors.config]
neighbor-address = "10.0.2.2"
peer-as = 65002
[neighbors.timers.config]
connect-retry = 1
idle-hold-time-after-reset = 1
"""


class Lab:
    """`routed lab VERB FILE ...` for the row."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "row.clab.yml"
        self.directory = directory
        (directory / "left").mkdir()
        files = {
            "row.clab.yml": TOPOLOGY, "left/daemons": DAEMONS, "left/frr.conf": LEFT, "middle.conf": MIDDLE,
            "right.toml": RIGHT,
        }  # fmt: skip
        for name, text in files.items():
            (directory / name).write_text(text)

    def argv(self, verb: str, *words: str) -> list[str]:
        return [sys.executable, "-m", "routed", "lab", verb, str(self.file), *words]

    def do(self, verb: str, *words: str, status: int = 0) -> str:
        """The output of a command that has to end with `status`; what it says to the terminal if that is not 0."""
        done = subprocess.run(
            self.argv(verb, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    def containers(self) -> dict[str, Any]:
        """What `inspect --json` says of each node."""
        told = json.loads(self.do("inspect", "--json"))
        assert list(told) == [NAME]
        return {container["node"]: container for container in told[NAME]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("row"))
    lab.do("deploy", "--kernel", "host")
    yield lab
    lab.do("destroy")
    assert remains() == []


def remains() -> list[str]:
    """What carries the lab's name: namespaces, directories, processes but for our own."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [*Path("/run/netns").glob(f"*{NAME}*"), *Path("/run").glob(f"routed-*/{NAME}")]
    return [line for line in processes if f"/{NAME}/" in line or f"={NAME}" in line] + [str(path) for path in paths]


def routes(lab: Lab, node: str) -> set[str]:
    return {line.split()[0] for line in lab.do("exec", node, "ip", "route").splitlines() if "via" in line}


@pytest.mark.parametrize(
    ("node", "learned"),
    [("left", {"10.77.2.0/24"}), ("right", {"10.77.1.0/24", "10.77.2.0/24"}), ("middle", {"10.77.1.0/24"})],
)
def test_what_a_router_learns_is_in_its_kernel(lab: Lab, node: str, learned: set[str]) -> None:
    until(lambda: learned <= routes(lab, node))


@pytest.mark.parametrize(
    ("node", "argv", "said"),
    [
        ("left", ("vtysh", "-c", "show bgp ipv4 unicast"), "10.77.2.0/24"),
        ("middle", ("birdc", "show", "route"), "10.77.1.0/24"),
        ("right", ("gobgp", "global", "rib"), "10.77.1.0/24"),
    ],
)
def test_each_routers_own_cli_just_works_in_its_node(lab: Lab, node: str, argv: tuple[str, ...], said: str) -> None:
    until(lambda: said in lab.do("exec", node, *argv))


def test_a_node_has_its_name_its_processes_and_its_files_to_itself(lab: Lab) -> None:
    seen = lab.do(
        "exec", "left", "sh", "-c", "hostname; cat /etc/frr/daemons; ls /run/frr; ls /sys/class/net; ps -eo comm="
    )

    assert seen.splitlines()[0] == "left"
    assert DAEMONS in seen
    assert {"zserv.api", "bgpd.vty", "eth1", "zebra", "bgpd", "staticd"} <= set(seen.split())
    assert not {"bird", "gobgpd", "eth0"} & set(seen.split())


def test_inspect_has_containerlabs_shape_and_the_sessions(lab: Lab) -> None:
    def established() -> bool:
        return all(each["state"] == "Established" for one in lab.containers().values() for each in one["sessions"])

    until(established)
    left = lab.containers()["left"]
    assert {key: left[key] for key in ("lab_name", "name", "image", "kind", "state", "ipv4_address")} == {
        "lab_name": NAME, "name": f"clab-{NAME}-left", "image": "frrouting/frr:v8.4.1", "kind": "linux",
        "state": "running", "ipv4_address": "10.0.1.1/24",
    }  # fmt: skip
    assert (left["router"], [session["neighbor"] for session in left["sessions"]]) == ("frr", ["10.0.1.2"])


@pytest.mark.parametrize("node", ["left", "middle", "right"])
def test_a_restarted_router_learns_its_routes_again(lab: Lab, node: str) -> None:
    lab.do("restart", node)

    until(lambda: "10.77" in " ".join(routes(lab, node)))


@pytest.mark.parametrize(("node", "said"), [("left", "bgpd 8"), ("middle", "Started"), ("right", "gobgpd started")])
def test_logs_are_those_of_the_nodes_daemons(lab: Lab, node: str, said: str) -> None:
    assert said in lab.do("logs", node)


def test_logs_follow_until_they_are_interrupted(lab: Lab) -> None:
    with subprocess.Popen(lab.argv("logs", "middle", "--follow"), stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert "Started" in next(line for line in following.stdout if "Started" in line)
        following.send_signal(signal.SIGINT)

        assert following.wait(MINUTE) == 130


def test_a_shell_has_a_terminal_of_our_size_in_the_node(lab: Lab) -> None:
    outer, inner = pty.openpty()
    subprocess.run(["stty", "rows", "33", "cols", "77"], stdin=inner, check=True)
    with subprocess.Popen(lab.argv("shell", "right"), stdin=inner, stdout=inner, stderr=inner) as shell:
        os.close(inner)
        said = b""
        while b"right" not in said:  # the prompt
            said += os.read(outer, 4096)
        os.write(outer, b"stty size; tty >/dev/null && echo a-$((40+2)); exit 7\n")
        while True:
            try:
                said += os.read(outer, 4096)
            except OSError:  # EIO: the shell and its client are gone
                break
        status = shell.wait(MINUTE)
    os.close(outer)
    assert status == 7
    assert b"33 77" in said
    assert b"a-42" in said


def test_a_router_in_whose_file_is_an_error_is_refused_in_its_own_words(lab: Lab) -> None:
    for name, wrong, words in (
        ("left/frr.conf", "router bgb 65001\n", "Unknown command"),
        ("right.toml", "[global.config]\nas = 'many'\n", "cannot parse"),
        ("middle.conf", "protocol bgb {}\n", "syntax error"),
    ):
        file = lab.directory / name
        before = file.read_text()
        file.write_text(wrong)
        said = lab.do("validate", status=1)
        file.write_text(before)
        assert str(file) in said
        assert words in said
    assert "is valid: 3 nodes, 2 links, 0 pods" in lab.do("validate")


def test_a_router_that_is_not_installed_is_refused_with_the_package_that_brings_it(lab: Lab) -> None:
    nothing = {**os.environ, "PATH": str(lab.directory)}
    done = subprocess.run(lab.argv("validate"), env=nothing, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "router left runs FRR, but vtysh is not installed" in done.stderr
    assert "install the Debian package frr" in done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in TOPOLOGIES.glob("*.clab.yml")))
def test_every_router_of_a_topology_that_ships_accepts_its_configuration(name: str) -> None:
    validate(topology.load(TOPOLOGIES / name))


def test_nothing_outlives_a_runner_that_is_killed(lab: Lab) -> None:
    """The last test of the module: it leaves no lab."""
    lives = subprocess.Popen(lab.argv("exec", "left", "sh", "-c", f"sleep 600 # ={NAME}"), stdin=subprocess.DEVNULL)
    until(lambda: any("sleep 600" in line for line in remains()))
    pid = lab.containers()["left"]["pid"]
    runner = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(runner, signal.SIGKILL)

    # but for the keeper's word to the next command on how the lab ended
    until(lambda: not any("/run/routed-lab/" not in each for each in remains()))
    assert lives.wait(MINUTE) != 0
    assert "was killed by SIGKILL" in lab.do("exec", "left", "true", status=1)
