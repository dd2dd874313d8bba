"""What a node of a topology file is: kinds, scalars, files, namespaces; and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed_lab.topology import HOST, Kind, Role

ONE = "name: small\ntopology:\n  nodes:\n    a:\n      kind: linux\n"


def test_scalars_are_those_of_yaml_1_2(read):
    lab = read("""\
        nodes:
          on: {kind: linux, env: {A: on, B: yes, C: 1:2, D: 0123, E: 1_000, F: ~, G: 1.50, H: true}}
        """)

    env = lab.nodes["on"].env or {}
    assert [env[name] for name in "ABCDEFGH"] == ["on", "yes", "1:2", "0123", "1_000", "", "1.50", "true"]


def test_a_plain_file_of_containerlab_is_a_lab(read):
    lab = read("nodes: {l1: {kind: linux, image: alpine, cmd: sleep 5, entrypoint: sh -c}, L_2.x: {kind: linux}}")

    assert [(node.name, node.role) for node in lab.nodes.values()] == [("l1", Role.PLAIN), ("L_2.x", Role.PLAIN)]
    assert lab.nodes["l1"].program == ("sh", "-c", "sleep", "5")
    assert lab.pods == ()


def test_what_is_empty_counts_as_not_given(read):
    lab = read("{defaults: , kinds: , groups: , nodes: {a: {kind: linux, env: , exec: , binds: , image: ''}}, links: }")

    assert (lab.nodes["a"].commands, lab.nodes["a"].binds, lab.links) == ((), (), ())


def test_magic_variables_are_put_into_commands_binds_and_configurations(read, tmp_path: Path):
    (tmp_path / "clab-small/a").mkdir(parents=True)
    (tmp_path / "clab-small/a/file").write_text("")
    (tmp_path / "a.conf").write_text("")
    lab = read("""\
        defaults: {kind: linux}
        nodes:
          a:
            exec: [echo __clabNodeName__ __clabLabName__ __clabDir__ __clabNodeDir__]
            binds: ["__clabNodeDir__/file:/__clabNodeName__"]
            labels: {routed.role: router, routed.config: __clabNodeName__.conf}
            stages: {create: {exec: [{command: echo __clabNodeName__, target: host, phase: on-exit}]}}
        """)

    node, made = lab.nodes["a"], tmp_path / "clab-small"
    assert node.commands == (("echo", "a", "clab-small", str(made), f"{made}/a"),)
    assert [(bind.source, bind.target) for bind in node.binds] == [(made / "a/file", "/__clabNodeName__")]
    assert node.config == tmp_path / "a.conf"
    assert [(it.argv, it.on_host, it.on_exit) for it in node.stage_commands["create"]] == [(("echo", "a"), True, True)]


def test_programs_see_the_env_files_under_env_and_the_labels(read, tmp_path: Path):
    (tmp_path / "one.env").write_text("# comment\nA=file\nexport B='quoted value'\n\n")
    env = read("nodes: {a: {kind: linux, env-files: [one.env], env: {A: key}, labels: {my.label: x}}}").nodes["a"].env

    assert env is not None
    assert (env["A"], env["B"], env["CLAB_LABEL_MY_LABEL"], env["CLAB_LABEL_CLAB_NODE_NAME"]) == (
        "key", "quoted value", "x", "a",
    )  # fmt: skip


def test_all_variables_of_the_shell_come_with_import_envs(read):
    text = 'nodes: {a: {kind: linux, env: {__IMPORT_ENVS: "true", A: own}}}'

    env = read(text, {"A": "shell", "B": "shell"}).nodes["a"].env or {}

    assert (env["A"], env["B"]) == ("own", "shell")


def test_a_node_may_be_in_the_namespace_of_another(read):
    lab = read("""\
        defaults: {kind: linux}
        nodes:
          a: {network-mode: none}
          b: {network-mode: "container:a"}
          c: {network-mode: "container:clab-small-b"}
          d: {network-mode: host}
          br|a: {kind: bridge, network-mode: "container:a"}
          m: {kind: host}
        """)

    assert {name: lab.holder(name) for name in lab.nodes} == {
        "a": "a", "b": "a", "c": "a", "d": HOST, "br|a": "a", "m": HOST,
    }  # fmt: skip
    assert lab.nodes["br|a"].bridge == "br"


def test_the_nodes_of_a_kind_cluster_are_members_with_the_clusters_configuration(read, tmp_path: Path):
    (tmp_path / "k.yaml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: k01-worker2}\n"
        "spec: {bgp: {ipv4Address: 10.1.1.11/24}}\n"
    )
    lab = read("""\
        nodes:
          k01: {kind: k8s-kind, labels: {routed.config: k.yaml, routed.pods: "2"}}
          k01-worker2: {kind: ext-container}
          elsewhere: {kind: ext-container}
        """)

    assert {name: (node.kind, node.role, node.pods) for name, node in lab.nodes.items()} == {
        "k01-worker2": (Kind.EXTERNAL, Role.NODE, 2),
        "elsewhere": (Kind.EXTERNAL, Role.PLAIN, 0),
    }


def test_what_only_a_container_runtime_can_do_is_told_once_per_key(read):
    lab = read("""\
        defaults: {kind: linux, image-pull-policy: Always}
        nodes:
          a: {cpu: 1.5, memory: 1G, ports: ["80:8080"], sysctls: {kernel.msgmax: 1, net.ipv4.ip_forward: "0"}}
          b: {cpu: 2, dns: {servers: [10.0.0.1]}, healthcheck: {test: [CMD, "true"]}}
        """)

    assert [warning.partition(": ")[2].partition(" has no effect")[0] for warning in lab.warnings] == [
        "image-pull-policy", "cpu", "memory", "ports", "dns", "healthcheck", "sysctl kernel.msgmax",
    ]  # fmt: skip
    assert "small.clab.yml:5:14: cpu has no effect: only a container runtime can do that" in lab.warnings[1]
    assert lab.nodes["a"].sysctls == {"net.ipv4.ip_forward": "0"}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("{a: {}}", ":3:14: node a has no kind, and neither its group nor the defaults"),
        ("{a: {kind: nokia_srlinux}}", 'node a is of kind "nokia_srlinux"; this lab makes only linux, bridge,'),
        ("{a: {kind: linux, mgmt_ipv4: 1.1.1.1}}", 'unknown key "mgmt_ipv4" in node a'),
        ("{a: {kind: linux, startup-delay: soon}}", 'node a.startup-delay is "soon", expected a whole number'),
        ("{a: {kind: linux, startup-delay: -1}}", "expected a whole number from 0 to 3600"),
        ("{a: {kind: linux, auto-remove: yes}}", 'node a.auto-remove is "yes", expected true or false'),
        ("{a: {kind: linux, cpu: lots}}", 'node a.cpu is "lots", expected a number'),
        ("{a: {kind: linux, exec: date}}", 'node a.exec is the text "date", expected a list'),
        ("{a: {kind: linux, env: [A=1]}}", "node a.env is a list, expected a mapping"),
        ("{a: {kind: linux, binds: [gone:/x]}}", "names gone, but"),
        ("{a: {kind: linux, binds: [a:b:c:d]}}", "expected SOURCE:DESTINATION"),
        ("{a: {kind: linux, binds: [/:x]}}", "the destination of node a.binds[0] is \"x\", expected an absolute path"),
        ("{a: {kind: linux, env-files: [gone]}}", "cannot read the env-file"),
        ("{a: {kind: linux, network-mode: nonee}}", 'network-mode of node a is "nonee", expected none, host, bridge'),
        ("{a: {kind: linux, network-mode: 'container:b'}}", 'node a joins "b", which the topology does not have'),
        ("{a: {kind: linux, network-mode: 'container:a'}}", "in a circle: a -> a"),
        (
            "{a: {kind: linux, network-mode: 'container:b'}, b: {kind: bridge}}",
            "joins b, which is of kind bridge and no container",
        ),
        (
            "{a: {kind: linux, labels: {routed.role: node}, network-mode: host}}",
            "has the role node, and pods need a network namespace of their own",
        ),
        (
            "{a: {kind: linux, network-mode: host, sysctls: {net.ipv4.ip_forward: 1}}}",
            "node a has sysctls, and its network namespace is that of host",
        ),
        ("{host: {kind: linux}}", 'a node cannot be called "host": links know the machine by that name'),
        ("{mgmt-net: {kind: linux}}", "links know the management bridge by that name"),
        ("{a_bridge_of_a_long_name: {kind: bridge}}", "the name of a bridge is"),
        ("{'a b': {kind: linux}}", 'the name of a node is "a b"'),
        ("{a: {kind: bridge, labels: {routed.role: router}}}", "is of kind bridge and cannot have the role router"),
        ("{k: {kind: k8s-kind}}", "the topology has no nodes"),
        ("[a, b]", "nodes is a list, expected a mapping"),
        ("{a: {<<: 1, kind: linux}}", "what << merges is the text"),
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_is_refused_with_its_place(refusal, nodes: str, said: str):
    message = refusal(f"name: small\ntopology:\n  nodes: {nodes}\n")

    assert said in message
    assert "small.clab.yml:3:" in message or "env-file" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: small\ntopology: {nodes: {a: {kind: linux}}}\nmgmt: {ipv4: x}\n", 'unknown key "ipv4"'),
        ("name: small\ntopology: {nodes: {a: {kind: linux}}}\nprefix: a/b\n", 'the prefix is "a/b"'),
        ("name: small\ntopology:\n", 'has no "topology"'),
        ("name: small\ntopology: {nodes: {a: &x {<<: *x, kind: linux}}}\n", "goes deeper than 16"),
        ("name: small\ntopology: {nodes: {a: {kind: linux, stages: {creat: }}}}\n", 'unknown key "creat"'),
    ],
)
def test_a_file_that_cannot_be_is_refused(refusal, text: str, said: str):
    assert said in refusal(text)


def test_an_empty_prefix_leaves_the_names_alone(read):
    assert read("name: small\nprefix: ''\n" + ONE.partition("\n")[2]).namespace("a") == "a"
