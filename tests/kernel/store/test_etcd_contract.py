"""The contract of `Store`, on a real etcd."""

from tests.unit.store.test_contract import *  # noqa: F403
