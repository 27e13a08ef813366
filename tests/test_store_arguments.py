# SPDX-License-Identifier: Apache-2.0
"""Arguments that damo_tf.Store refuses: by name, rule and value (contract C14)."""

import numpy as np
import pytest
from small_groups import ONES, content, message_of
from stored_rows import step_of

import damo_tf

# ---- Arguments ----

KEY_RULE = "must be an integer in [-9223372036854775808, 18446744073709551616)"


@pytest.mark.parametrize(
    ("settings", "exception", "message"),
    [
        ({"ttl_seconds": 0}, ValueError, "`ttl_seconds` must be an integer in [1, 9223372036854775808)"),
        ({"ttl_seconds": 1.5}, TypeError, "ttl_seconds=1.5 of <class 'float'>"),
        ({"ttl_seconds": True}, TypeError, "ttl_seconds=True of <class 'bool'>"),
        ({"ttl_seconds": 2**63}, ValueError, "Received: ttl_seconds=9223372036854775808"),
        (
            {"ttl_seconds": 2**62},
            ValueError,
            "ttl_seconds must be > 0 and <= 9223372036854775. Received: ttl_seconds=4611686018427387904",
        ),
        ({"memory_budget": 2**63}, ValueError, "Received: memory_budget=9223372036854775808"),
        (
            {"memory_budget": (4 << 20) - 1},
            ValueError,
            "memory_budget must be >= 4194304 bytes. Received: memory_budget=4194303",
        ),
        ({"memory_budget": None}, TypeError, "memory_budget=None of <class 'NoneType'>"),
        ({"durability": "none"}, ValueError, "unknown durability 'none'; known: 'wal', 'sync', 'checkpoint'"),
        ({"durability": 1}, TypeError, "`durability` must be a str. Received: durability=1"),
        ({"read_only": 1}, TypeError, "`read_only` must be a bool. Received: read_only=1"),
        ({"clock": "wall"}, ValueError, "unknown clock 'wall'; known: 'system', 'event'"),
        ({"clock": 1}, TypeError, "`clock` must be a str. Received: clock=1"),
        (
            {"seed": -1},
            ValueError,
            "`seed` must be an integer in [0, 18446744073709551616). Received: seed=-1",
        ),
        ({"seed": 2**64}, ValueError, "Received: seed=18446744073709551616"),
        ({"seed": "x"}, TypeError, "seed='x' of <class 'str'>"),
    ],
)
def test_a_bad_setting_is_named_and_creates_nothing(tmp_path, settings, exception, message):
    assert message in message_of(exception, lambda: damo_tf.Store(tmp_path / "store", **settings))
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("directory", "exception", "message"),
    [
        ("", ValueError, "`directory` must be a path. Received: directory=''"),
        ("a\0b", ValueError, "`directory` must be a path without zero bytes. Received: directory='a\\x00b'"),
        (None, TypeError, "`directory` must be a path. Received: directory=None of <class 'NoneType'>"),
        (b"x", TypeError, "`directory` must be a path. Received: directory=b'x' of <class 'bytes'>"),
        (3, TypeError, "`directory` must be a path. Received: directory=3 of <class 'int'>"),
    ],
)
@pytest.mark.parametrize("opener", [damo_tf.Store, damo_tf.Store.attach])
def test_a_bad_directory_is_named(tmp_path, monkeypatch, opener, directory, exception, message):
    monkeypatch.chdir(tmp_path)
    assert message_of(exception, lambda: opener(directory)) == message
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "exception", "message"),
    [
        ({"group": -1}, ValueError, "`group` must be an integer in [0, 256). Received: group=-1"),
        ({"group": 256}, ValueError, "`group` must be an integer in [0, 256). Received: group=256"),
        ({"group": 1.0}, TypeError, "Received: group=1.0 of <class 'float'>"),
        ({"group": True}, TypeError, "Received: group=True of <class 'bool'>"),
        ({"dim": 0}, ValueError, "`dim` must be an integer in [1, 65537). Received: dim=0"),
        ({"dim": 65537}, ValueError, "`dim` must be an integer in [1, 65537). Received: dim=65537"),
        ({"dim": 2**64}, ValueError, "Received: dim=18446744073709551616"),
        ({"dim": "4"}, TypeError, "Received: dim='4' of <class 'str'>"),
        ({"optimizer": "sdg"}, ValueError, "unknown optimizer 'sdg'; known: 'adagrad', 'adam', 'adamw'"),
        ({"optimizer": None}, TypeError, "Received: optimizer=None of <class 'NoneType'>"),
        (
            {"optimizer": {"name": "adam", "beta1": 1}},
            ValueError,
            "optimizer 'adam': parameter 'beta1' must be in [0, 1). Received: beta1=1",
        ),
        ({"initializer": "normal"}, ValueError, "unknown initializer 'normal'; known: 'ones', 'random_norm"),
        ({"initializer": 3}, TypeError, "Received: initializer=3 of <class 'int'>"),
    ],
)
def test_add_group_names_a_bad_argument_and_adds_nothing(store, arguments, exception, message):
    assert message in message_of(exception, lambda: store.add_group(**{"group": 0, "dim": 4, **arguments}))
    assert store.stats()["groups"] == {}


@pytest.mark.parametrize(
    ("keys", "exception", "message"),
    [
        (None, TypeError, f"`keys` {KEY_RULE}. Received: keys=None of <class 'NoneType'>"),
        ("ab", TypeError, "`keys` must be integers. Received dtype: <U2"),
        ([1.0], TypeError, f"`keys` {KEY_RULE}. Received: keys=1.0 of <class 'float'>"),
        (np.array([1.0]), TypeError, "`keys` must be integers. Received dtype: float64"),
        ([True], TypeError, "`keys` must be integers. Received dtype: bool"),
        ([2**64], ValueError, f"`keys` {KEY_RULE}. Received: keys=18446744073709551616"),
        ([-(2**63) - 1], ValueError, f"`keys` {KEY_RULE}. Received: keys=-9223372036854775809"),
    ],
)
def test_bad_keys_are_named_and_change_nothing(sgd_store, keys, exception, message):
    assert message_of(exception, lambda: sgd_store.lookup(0, keys)) == message
    assert message_of(exception, lambda: sgd_store.apply_gradients(0, keys, ONES)) == message
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize(
    ("gradients", "exception", "message"),
    [
        (np.ones((2, 3)), ValueError, "keys.shape + (dim,) = (2, 2). Received shape: (2, 3)"),
        (np.ones(4), ValueError, "keys.shape + (dim,) = (2, 2). Received shape: (4,)"),
        (1.0, ValueError, "keys.shape + (dim,) = (2, 2). Received shape: ()"),
        ("no", TypeError, "`gradients` must be numbers. Received dtype: <U2"),
        (None, TypeError, "`gradients` must be numbers. Received dtype: object"),
        (np.ones((2, 2), complex), TypeError, "`gradients` must be numbers. Received dtype: complex128"),
        (np.ones((2, 2), bool), TypeError, "`gradients` must be numbers. Received dtype: bool"),
    ],
)
def test_bad_gradients_are_named_and_change_nothing(sgd_store, gradients, exception, message):
    assert message in message_of(exception, lambda: sgd_store.apply_gradients(0, [1, 2], gradients))
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize(
    ("value", "exception", "received"),
    [
        (2**64, ValueError, "=18446744073709551616"),
        (-(2**63) - 1, ValueError, "=-9223372036854775809"),
        (1.0, TypeError, "=1.0 of <class 'float'>"),
        (True, TypeError, "=True of <class 'bool'>"),
        ("1", TypeError, "='1' of <class 'str'>"),
    ],
)
def test_a_bad_key_or_padding_key_is_named(sgd_store, value, exception, received):
    assert message_of(exception, lambda: sgd_store.row(0, value)) == (
        f"`key` {KEY_RULE}. Received: key{received}"
    )
    for call in (
        lambda: sgd_store.lookup(0, [1], padding_key=value),
        lambda: sgd_store.apply_gradients(0, [1], ONES, padding_key=value),
    ):
        assert message_of(exception, call) == f"`padding_key` {KEY_RULE}. Received: padding_key{received}"
    assert step_of(sgd_store) == 0


@pytest.mark.parametrize("missing", ["zero", None, 0, ["initial"], np.array(["initial", "zeros"])], ids=repr)
def test_another_missing_is_refused(sgd_store, missing):
    text = message_of(ValueError, lambda: sgd_store.lookup(0, [1], missing=missing))
    assert text == f"`missing` must be 'initial' or 'zeros'. Received: missing={missing!r}"


@pytest.mark.parametrize("group", [-1, 256, "0", 0.0, None, False])
def test_a_bad_group_is_named_everywhere(sgd_store, group):
    calls = [
        lambda: sgd_store.lookup(group, [1]),
        lambda: sgd_store.apply_gradients(group, [1], ONES),
        lambda: sgd_store.row(group, 1),
    ]
    if group is not None:  # for size() that is every group
        calls.append(lambda: sgd_store.size(group))
    exception = ValueError if isinstance(group, int) and not isinstance(group, bool) else TypeError
    for call in calls:
        text = message_of(exception, call)
        assert text.startswith("`group` must be an integer in [0, 256). Received: group=")
        assert repr(group) in text
