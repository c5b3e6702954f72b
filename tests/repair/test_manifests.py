"""The manifests of k8s/base/repair-account, read; tests/kubernetes/test_repair_account.py tries them on a real API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "k8s" / "base" / "repair-account"


def documents(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((MANIFESTS / name).read_text()) if one]


ALL = documents("account.yaml") + documents("binding.yaml")


def test_no_rule_is_about_everything_or_about_secrets() -> None:
    rules = [rule for one in ALL for rule in one.get("rules", ())]

    assert rules
    for rule in rules:
        words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not words & {"*", "secrets", "delete", "deletecollection", "update", "escalate", "bind", "impersonate"}


def test_whoever_is_bound_is_the_account_that_is_made() -> None:
    [account] = [one["metadata"] for one in ALL if one["kind"] == "ServiceAccount"]
    roles = {(one["kind"], one["metadata"]["name"]) for one in ALL if one["kind"] in ("Role", "ClusterRole")}
    bindings = [one for one in ALL if one["kind"].endswith("Binding")]

    assert len(bindings) == 3
    for binding in bindings:
        assert binding["subjects"] == [{"kind": "ServiceAccount", **account}]
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in roles


def test_only_nodes_and_the_list_of_pods_are_granted_everywhere() -> None:
    [everywhere] = [one["roleRef"]["name"] for one in ALL if one["kind"] == "ClusterRoleBinding"]
    [role] = [one for one in ALL if one["kind"] == "ClusterRole" and one["metadata"]["name"] == everywhere]

    assert {(tuple(rule["resources"]), tuple(rule["verbs"])) for rule in role["rules"]} == {
        (("nodes",), ("get", "patch")),
        (("pods",), ("list",)),
    }
