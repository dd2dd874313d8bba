"""Another IPAM plugin's part: specification section 4, with an executable that writes down how it was called."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cni.world import NEWEST, Tell, World

SCRIPT = """#!/bin/sh
{{ env | grep ^CNI_ | sort | tr '\\n' ' '; cat; echo; }} >>{log}
echo "$CNI_COMMAND in {name}" >&2
if [ -e {log}.$CNI_COMMAND ]; then printf '{{"cniVersion":"1.0.0","code":142,"msg":"no"}}'; exit 1; fi
[ "$CNI_COMMAND" != ADD ] || printf '{{"cniVersion":"1.0.0","ips":[{{"address":"10.66.0.1/24"}}]}}'
"""


@dataclass(frozen=True)
class Ipam:
    """The IPAM plugin `other`, twice on the path: only the first one is to be called."""

    directory: Path
    path: str

    @property
    def fields(self) -> dict[str, Any]:
        return {"ipam": {"type": "other", "range": "x"}, "args": {"k": [1]}}

    def calls(self) -> list[str]:
        """The commands, in the order in which they came."""
        lines = (self.directory / "log").read_text().splitlines()
        return [word.split("=")[1] for line in lines for word in line.split() if word.startswith("CNI_COMMAND=")]

    def refuse(self, command: str) -> None:
        (self.directory / f"log.{command}").touch()

    async def call(self, world: World, command: str, **fields: Any) -> tuple[int, str]:
        return await world.call(command, fields={**self.fields, **fields}, CNI_PATH=self.path, CNI_ODD="1")


@pytest.fixture
def ipam(tmp_path: Path) -> Ipam:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "other"
        program.write_text(SCRIPT.format(log=tmp_path / "log", name=name))
        program.chmod(0o755)
    (tmp_path / "none").mkdir()
    return Ipam(tmp_path, f"{tmp_path}/none:/nowhere:{tmp_path}/first:{tmp_path}/second")


@pytest.mark.spec("CNI 1.1.0", "4 Protocol.1", "4 Protocol.2", "4 Procedure.2")
def test_it_gets_every_variable_of_the_call_and_the_whole_configuration(tell: Tell, ipam: Ipam):
    async def story(world: World) -> None:
        assert (await ipam.call(world, "ADD", dns={"search": ["x"]}))[0] == 0

    tell(story)
    variables, configuration = (ipam.directory / "log").read_text().rstrip().split(" {", 1)
    assert set(variables.split()) == {
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/netns/x",
        "CNI_ODD=1",
        f"CNI_PATH={ipam.path}",
    }
    whole = {"cniVersion": "1.0.0", "name": "n", "type": "t", **ipam.fields, "dns": {"search": ["x"]}}
    assert json.loads("{" + configuration) == whole


@pytest.mark.spec("CNI 1.1.0", "4 Procedure.1", "4 Procedure.3")
def test_the_first_one_on_the_path_is_executed_and_what_it_says_is_logged(
    tell: Tell, ipam: Ipam, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "routed_cni.delegation")

    async def story(world: World) -> None:
        await ipam.call(world, "ADD")

    tell(story)
    assert [record.getMessage() for record in caplog.records if record.name == "routed_cni.delegation"] == [
        "IPAM plugin other, ADD: ADD in first"
    ]


@pytest.mark.spec("CNI 1.1.0", "4 Procedure.5", "4 Procedure.6")
def test_an_add_that_it_refuses_is_followed_by_a_delete_and_leaves_nothing(tell: Tell, ipam: Ipam):
    async def story(world: World) -> None:
        ipam.refuse("ADD")
        status, output = await ipam.call(world, "ADD")
        assert (status, json.loads(output)["code"]) == (1, 142)
        assert ipam.calls() == ["ADD", "DEL"]
        await world.swept()
        assert (world.links, dict(world.announced)) == (set(), {})

    tell(story)


def test_one_that_cannot_be_executed_is_named_and_no_fault_of_ours(tell: Tell, ipam: Ipam):
    program = ipam.directory / "first" / "other"
    program.write_bytes(b"\x7fELF")

    async def story(world: World) -> None:
        status, output = await ipam.call(world, "ADD")
        assert (status, json.loads(output)["code"]) == (1, 5)
        assert json.loads(output)["msg"] == f"IPAM plugin {program} cannot be executed: Exec format error"

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 DEL.2", "4 Procedure.4", "4 Procedure.5")
def test_a_delete_that_it_refuses_is_refused_when_our_own_is_gone_and_may_be_repeated(tell: Tell, ipam: Ipam):
    async def story(world: World) -> None:
        await ipam.call(world, "ADD")
        ipam.refuse("DEL")
        status, output = await ipam.call(world, "DEL")
        assert (status, json.loads(output)["code"]) == (1, 142)
        assert (world.links, dict(world.announced)) == (set(), {})
        (ipam.directory / "log.DEL").unlink()
        assert await ipam.call(world, "DEL") == (0, "")
        assert ipam.calls() == ["ADD", "DEL", "DEL"]

    tell(story)


@pytest.mark.spec("CNI 1.1.0", "2 STATUS.6", "4 Procedure.5")
def test_its_status_is_ours(tell: Tell, ipam: Ipam):
    async def story(world: World) -> None:
        assert await ipam.call(world, "STATUS", **NEWEST) == (0, "")
        ipam.refuse("STATUS")
        status, output = await ipam.call(world, "STATUS", **NEWEST)
        assert (status, json.loads(output)["code"]) == (1, 142)

    tell(story)
