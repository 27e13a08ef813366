# SPDX-License-Identifier: Apache-2.0
"""The readers of models.data, the feature hash, the split and the batches."""

from pathlib import Path

import numpy as np
import pytest

from models import data
from models.data import batches, criteo, movielens, synthetic
from models.data.hashing import feature_hash, field_hasher
from models.errors import DataError

ITEM_TAIL = b"|A Film (1995)|01-Jan-1995||http://example.com|"


def criteo_line(label=b"0", integers=(b"",) * 13, categories=(b"",) * 26) -> bytes:
    return b"\t".join([label, *integers, *categories]) + b"\n"


def item_line(item: bytes, *genres: bytes) -> bytes:
    flags = [b"1" if genre in genres else b"0" for genre in movielens.GENRES]
    return item + ITEM_TAIL + b"|".join(flags) + b"\n"


@pytest.fixture
def movielens_folder(tmp_path: Path) -> Path:
    (tmp_path / "u.user").write_bytes(b"1|24|M|technician|85711\n2|53|F|other|94043\n")
    (tmp_path / "u.item").write_bytes(item_line(b"10", b"Action", b"War") + item_line(b"11"))
    (tmp_path / "u.data").write_bytes(b"1\t10\t4\t881250949\n2\t11\t3\t3600\n")
    return tmp_path


def examples(labels) -> data.Examples:
    """Examples whose ids are their numbers, from 1."""
    labels = np.asarray(labels, np.float32)
    ids = np.arange(1, len(labels) + 1, dtype=np.uint64)[:, np.newaxis]
    return data.Examples((data.Field("f"),), ids, labels)


# ---- Feature hash ----


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("user", b"1", 0xB5D30734539A8B90),
        ("item", b"1", 0x5DC025D781F8AAE9),
        ("C1", b"", 0x1E2F6B7EE071E3D4),
        ("C1", b"68fd1e64", 0x01D0A2087A820627),
        ("genre", b"Children's", 0x4965B1110441D9D4),
    ],
)
def test_feature_hash_is_that_of_existing_stores(field, value, expected):
    assert feature_hash(field, value) == expected
    assert field_hasher(field)(value) == expected


# ---- Criteo ----


def test_criteo_line_becomes_one_id_per_column(tmp_path):
    integers = (b"5", b"-2", b"", b"2", b"3", b"1000000", *[b"0"] * 7)
    categories = (b"68fd1e64", *[b""] * 25)
    path = tmp_path / "log.tsv"
    path.write_bytes(criteo_line(b"1", integers, categories) + criteo_line(b"0"))

    read = data.read(path)

    assert read.fields == criteo.FIELDS
    assert read.labels.tolist() == [1.0, 0.0]
    # floor(ln(5)^2) = 2, floor(ln(3)^2) = 1, floor(ln(10^6)^2) = 190
    values = [b"log2", b"-2", b"", b"2", b"log1", b"log190", *[b"0"] * 7, *categories]
    names = [field.name for field in criteo.FIELDS]
    assert read.ids[0].tolist() == list(map(feature_hash, names, values))
    assert read.ids[1].tolist() == [feature_hash(name, b"") for name in names]
    assert read.ids.dtype == np.uint64


def test_criteo_accepts_windows_line_ends_and_no_last_newline(tmp_path):
    path = tmp_path / "log.tsv"
    path.write_bytes(criteo_line(categories=[b"a"] * 26).replace(b"\n", b"\r\n") * 2)
    other = tmp_path / "other.tsv"
    other.write_bytes((criteo_line(categories=[b"a"] * 26) * 2)[:-1])

    np.testing.assert_array_equal(data.read(path).ids, data.read(other).ids)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"0\t1\t2\n", "must have 40 columns separated by tabs. Found: 3"),
        (b"\n", "must have 40 columns separated by tabs. Found: 1"),
        (criteo_line()[:-1] + b"\textra\n", "must have 40 columns separated by tabs. Found: 41"),
        (criteo_line(label=b"2"), "label must be 0 or 1. Found: '2'"),
        (criteo_line(label=b"x" * 99), f"label must be 0 or 1. Found: '{'x' * 40}...'"),
        (criteo_line(label=b"\xff"), "label must be 0 or 1. Found: '\ufffd'"),
        (criteo_line(integers=[b""] * 12 + [b"1.5"]), "I13 must be an integer. Found: '1.5'"),
    ],
)
def test_bad_criteo_line_is_named(tmp_path, line, problem):
    path = tmp_path / "log.tsv"
    path.write_bytes(criteo_line() + line + criteo_line())

    with pytest.raises(DataError) as error:
        data.read(path)

    assert str(error.value) == f"{path}, line 2: {problem}"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent\.tsv: No such file or directory"):
        data.read(tmp_path / "absent.tsv")


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "log.tsv").touch()
    with pytest.raises(DataError, match=r"log\.tsv: the file is empty"):
        data.read(tmp_path / "log.tsv")


# ---- MovieLens ----


def test_movielens_rating_is_joined_with_user_and_item(movielens_folder):
    read = data.read(movielens_folder)

    names = ["user", "age", "gender", "occupation", "zip", "hour", "item", "genre"]
    assert [field.name for field in read.fields] == names
    assert [field.slots for field in read.fields] == [1] * 7 + [2]
    assert read.labels.tolist() == [1.0, 0.0]
    # 881250949 seconds is 1997-12-04, 15:55:49 UTC.
    first = [b"1", b"24", b"M", b"technician", b"85711", b"15", b"10"]
    second = [b"2", b"53", b"F", b"other", b"94043", b"1", b"11"]
    genres = [feature_hash("genre", b"Action"), feature_hash("genre", b"War")]
    assert read.ids[0].tolist() == [*map(feature_hash, names[:7], first), *genres]
    padding = [data.PADDING, data.PADDING]
    assert read.ids[1].tolist() == [*map(feature_hash, names[:7], second), *padding]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1\t10\t4", "must have 4 columns separated by tabs. Found: 3"),
        (b"9\t10\t4\t0", "user '9' is not in u.user"),
        (b"1\t99\t4\t0", "item '99' is not in u.item"),
        (b"1\t10\t6\t0", "rating must be 1 to 5. Found: '6'"),
        (b"1\t10\tgood\t0", "rating must be 1 to 5. Found: 'good'"),
        (b"1\t10\t4\tnow", "timestamp must be an integer. Found: 'now'"),
    ],
)
def test_bad_rating_is_named(movielens_folder, line, problem):
    path = movielens_folder / "u.data"
    path.write_bytes(path.read_bytes() + line + b"\n")

    with pytest.raises(DataError) as error:
        data.read(movielens_folder)

    assert str(error.value) == f"{path}, line 3: {problem}"


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        ("u.user", b"1|24|M", "must have 5 columns separated by '|'. Found: 3"),
        ("u.item", b"1|A Film", "must have 24 columns separated by '|'. Found: 2"),
        (
            "u.item",
            item_line(b"1").replace(b"0\n", b"yes"),
            "genre 'Western' must be 0 or 1. Found: 'yes'",
        ),
    ],
)
def test_bad_user_or_item_is_named(movielens_folder, file, line, problem):
    path = movielens_folder / file
    path.write_bytes(line + b"\n")

    with pytest.raises(DataError) as error:
        data.read(movielens_folder)

    assert str(error.value) == f"{path}, line 1: {problem}"


@pytest.mark.parametrize("file", ["u.data", "u.user", "u.item"])
def test_missing_movielens_file_is_named(movielens_folder, file):
    (movielens_folder / file).unlink()
    with pytest.raises(DataError, match=f"cannot read .*{file}: No such file or directory"):
        data.read(movielens_folder)


# ---- Made-up log ----


def test_made_up_log_is_a_criteo_log_and_the_same_for_the_same_seed(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        synthetic.write_log(path, rows=500, seed=seed)

    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other
    read = data.read(paths[0])
    assert len(read) == 500
    assert 0.15 < read.labels.mean() < 0.4


# ---- Split ----


def test_split_deals_out_every_example_once_and_each_label_alike():
    whole = examples([1] * 30 + [0] * 70)

    training, validation = whole.split(validation=0.1, seed=5)

    assert len(validation) == 10
    assert validation.labels.sum() == 3
    np.testing.assert_array_equal(np.sort(np.concatenate([training.ids, validation.ids]), axis=0), whole.ids)
    for part in (training, validation):
        np.testing.assert_array_equal(part.labels, part.ids[:, 0] <= 30)


def test_split_depends_on_the_seed_only():
    whole = examples([0, 1] * 50)

    first, again, other = (whole.split(validation=0.1, seed=seed)[1].ids for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_split_of_few_examples_has_both_labels_in_both_parts():
    for part in examples([0, 1, 0, 1]).split(validation=0.1, seed=0):
        assert sorted(part.labels) == [0, 1]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [([1, 1, 1], "Found: 0 of 0 in 3 examples"), ([0, 0, 1], "Found: 1 of 1 in 3 examples")],
)
def test_split_needs_two_examples_of_each_label(labels, problem):
    with pytest.raises(DataError, match=problem):
        examples(labels).split(validation=0.1, seed=0)


# ---- Batches ----


def ids_of(dataset) -> list[int]:
    return [int(i) for ids, _ in dataset.as_numpy_iterator() for i in ids.view(np.uint64)[:, 0]]


def test_each_epoch_is_a_shuffled_pass_over_all_examples():
    whole = examples([0, 1] * 25)
    per_epoch = batches.batches_per_epoch(whole, 8)

    passes = batches.shuffled(whole, 8, range(2), seed=3)

    first, second = (ids_of(passes.skip(n * per_epoch).take(per_epoch)) for n in range(2))
    assert sorted(first) == sorted(second) == list(range(1, 51))
    assert first != second
    assert first != sorted(first)


def test_order_of_an_epoch_does_not_depend_on_where_training_started():
    whole = examples([0, 1] * 25)
    from_the_start = ids_of(batches.shuffled(whole, 8, range(3), seed=3))

    assert ids_of(batches.shuffled(whole, 8, range(2, 3), seed=3)) == from_the_start[100:]
    assert ids_of(batches.shuffled(whole, 8, range(2, 3), seed=4)) != from_the_start[100:]


def test_batches_keep_ids_with_their_labels_and_all_64_bits():
    whole = data.Examples(
        (data.Field("f"),),
        np.array([[2**64 - 1], [1], [2**63]], np.uint64),
        np.array([1, 0, 1], np.float32),
    )

    for dataset in (batches.in_order(whole, 2), batches.shuffled(whole, 2, range(1), seed=0)):
        seen = {}
        for ids, labels in dataset.as_numpy_iterator():
            assert labels.shape == (len(ids), 1)
            seen |= dict(zip(ids.view(np.uint64)[:, 0].tolist(), labels[:, 0], strict=True))
        assert seen == {2**64 - 1: 1.0, 1: 0.0, 2**63: 1.0}
