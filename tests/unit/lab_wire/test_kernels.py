"""The choice of a lab's kernel."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from routed.errors import EnvironmentFault
from routed_lab import kernels
from routed_lab.uml.needs import Lack

NEEDS = {"ipip", "veth"}
NO_UML = Lack("linux.uml is not installed", "install the Debian package user-mode-linux")


def machine(*, root: bool = True, has: Collection[str] = ("ipip", "veth"), uml: bool = True) -> kernels.Machine:
    return kernels.Machine(
        root=root,
        without=lambda kinds: [kind for kind in kinds if kind not in has],
        uml_lacks=lambda: [] if uml else [NO_UML],
    )


def test_auto_takes_the_host_when_root_and_all_drivers_are_there() -> None:
    assert kernels.choose("auto", NEEDS, machine()) == "host"


def test_auto_takes_uml_when_a_driver_is_missing() -> None:
    assert kernels.choose("auto", NEEDS, machine(has=["veth"])) == "uml"


def test_auto_takes_uml_for_an_ordinary_user() -> None:
    assert kernels.choose("auto", NEEDS, machine(root=False)) == "uml"


def test_uml_is_taken_when_asked_for_even_if_the_host_has_all() -> None:
    assert kernels.choose("uml", NEEDS, machine()) == "uml"


def test_host_is_refused_without_root_and_says_so() -> None:
    with pytest.raises(EnvironmentFault, match="needs root") as caught:
        kernels.choose("host", NEEDS, machine(root=False))
    assert "--kernel uml" in str(caught.value)


def test_host_is_refused_by_the_name_of_the_missing_driver_and_what_to_do() -> None:
    with pytest.raises(EnvironmentFault, match="lacks the driver ipip") as caught:
        kernels.choose("host", NEEDS, machine(has=["veth"]))
    assert "modprobe -a ipip" in str(caught.value)
    assert "--kernel uml" in str(caught.value)


def test_uml_is_refused_with_the_debian_package_it_lacks() -> None:
    with pytest.raises(EnvironmentFault, match=r"linux\.uml is not installed") as caught:
        kernels.choose("uml", NEEDS, machine(uml=False))
    assert "user-mode-linux" in str(caught.value)


def test_auto_names_what_both_kernels_lack() -> None:
    with pytest.raises(EnvironmentFault, match=r"linux\.uml is not installed.*lacks the driver ipip"):
        kernels.choose("auto", NEEDS, machine(has=["veth"], uml=False))


def test_the_host_is_not_probed_when_uml_is_asked_for() -> None:
    def never(_: Collection[str]) -> Collection[str]:
        raise AssertionError("probed")

    assert kernels.choose("uml", NEEDS, kernels.Machine(root=True, without=never, uml_lacks=list)) == "uml"
