"""Dialling: who is due, and what is forgotten. How a node uses it: tests/protocol/test_node.py."""

from __future__ import annotations

from mlog import limits
from mlog.protocol.dialling import Dialling
from tests.log.support import device_keys

from .pair import peer_row

PEER = peer_row(device_keys(1))
KNOWN = {PEER.device}


def test_a_known_device_is_due_at_once_and_then_waits_to_be_told():
    dialling = Dialling()
    dialling.learn([PEER], 5)
    assert dialling.wake_ms == 5
    assert list(dialling.due(KNOWN, 5)) == [(PEER.device, PEER.addresses)]
    assert dialling.wake_ms is None
    dialling.learn([PEER], 6)
    assert dialling.wake_ms is None


def test_a_connected_device_is_not_due_and_one_without_an_address_never_is():
    dialling = Dialling()
    dialling.learn([PEER], 5)
    dialling.connected(PEER.device)
    assert dialling.wake_ms is None
    dialling.failed(device_keys(2).id, 5)
    assert dialling.wake_ms is None


def test_the_side_that_was_dialled_waits_for_longer():
    for second in (False, True):
        dialling = Dialling()
        dialling.learn([PEER], 0)
        dialling.connected(PEER.device)
        dialling.failed(PEER.device, 0, second=second)
        assert dialling.wake_ms == limits.REDIAL_MIN_MS * (2 if second else 1)


def test_a_device_that_is_trusted_again_is_dialled_again():
    dialling = Dialling()
    dialling.learn([PEER], 0)
    assert list(dialling.due(KNOWN, 0))
    dialling.learn([], 1)
    dialling.learn([PEER], 2)
    assert dialling.wake_ms == 2


def test_who_is_known_no_more_is_not_dialled():
    dialling = Dialling()
    dialling.learn([PEER], 0)
    assert not list(dialling.due(set(), 0))
    assert dialling.wake_ms is None
