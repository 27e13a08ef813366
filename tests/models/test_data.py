# SPDX-License-Identifier: Apache-2.0
"""The readers of models.data, the feature hash, the split and the batches."""

import dataclasses
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


def test_criteo_integers_can_be_numbers(tmp_path):
    integers = (b"5", b"-2", b"", *[b"0"] * 10)
    path = tmp_path / "log.tsv"
    path.write_bytes(criteo_line(b"1", integers, [b"a"] * 26) + criteo_line())

    read = data.read(path, numeric=True)

    assert [field.name for field in read.fields] == list(criteo.CATEGORIES)
    assert read.ids[0].tolist() == [feature_hash(name, b"a") for name in criteo.CATEGORIES]
    np.testing.assert_allclose(read.numbers, [[np.log(6), *[0] * 12], [0] * 13], rtol=1e-6)
    assert data.read(path).numbers is None


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
        ("u.user", b"1|old|M|other|85711", "age must be an integer. Found: 'old'"),
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


def test_movielens_age_and_hour_can_be_numbers(movielens_folder):
    read = data.read(movielens_folder, numeric=True)

    names = ["user", "gender", "occupation", "zip", "item", "genre"]
    assert [field.name for field in read.fields] == names
    assert read.ids[1, :5].tolist() == [*map(feature_hash, names, [b"2", b"F", b"other", b"94043", b"11"])]
    np.testing.assert_allclose(read.numbers, [[0.24, 15 / 24], [0.53, 1 / 24]], rtol=1e-6)
    assert data.read(movielens_folder).numbers is None


def test_history_is_what_the_user_had_liked_before(movielens_folder):
    ratings = [(1, 10, 5, 30), (1, 11, 5, 10), (2, 10, 5, 15), (1, 10, 3, 20), (1, 11, 4, 40)]
    lines = ["\t".join(map(str, rating)) + "\n" for rating in ratings]
    (movielens_folder / "u.data").write_text("".join(lines))

    read = movielens.read_in_time(movielens_folder, history=2)

    first, second = (feature_hash("item", item) for item in (b"10", b"11"))
    histories = read.ids[:, data.field_slots(read.fields)["history"]].tolist()
    assert read.labels.tolist() == [1, 1, 0, 1, 1]  # seconds 10, 15, 20, 30, 40
    assert histories == [[0, 0], [0, 0], [second, 0], [second, 0], [second, first]]
    liked = movielens.read_in_time(movielens_folder, liked_only=True)
    assert len(liked) == 4 and "history" not in data.field_slots(liked.fields)
    np.testing.assert_array_equal(liked.ids[:, :6], read.ids[[0, 1, 3, 4], :6])


def test_history_holds_the_latest(movielens_folder):
    lines = [f"1\t{item}\t5\t{second}\n" for second, item in enumerate((10, 11, 11, 10))]
    (movielens_folder / "u.data").write_text("".join(lines))

    read = movielens.read_in_time(movielens_folder, history=2)

    item = feature_hash("item", b"11")
    assert read.ids[-1, data.field_slots(read.fields)["history"]].tolist() == [item, item]


def test_time_needs_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"log\.tsv: must be a MovieLens-100K folder"):
        movielens.read_in_time(tmp_path / "log.tsv")


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


def test_made_up_ratings_are_a_movielens_folder_and_the_same_for_the_same_seed(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        synthetic.write_ratings(folder, rows=4000, seed=seed)

    first, again, other = ((folder / "u.data").read_bytes() for folder in folders)
    assert first == again
    assert first != other
    read = data.read(folders[0])
    assert len(read) == 4000
    assert 0.25 < read.labels.mean() < 0.75
    slots = data.field_slots(read.fields)
    pairs = read.ids[:, [slots["user"].start, slots["item"].start]]
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert len(np.unique(pairs[:, 0])) == 100


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


def of_users(users) -> data.Examples:
    """Examples of fields "user" and "number", which counts from 0."""
    ids = np.stack([users, np.arange(len(users))], axis=1).astype(np.uint64)
    return data.Examples((data.Field("user"), data.Field("number")), ids, np.ones(len(users), np.float32))


def test_latest_split_takes_the_last_examples_of_each_user():
    users = [7, 8, 7, 7, 8, 7, 9, 7, 8, 8]

    training, validation = of_users(users).split_latest("user", validation=0.25)

    assert validation.ids.tolist() == [[7, 7], [8, 9]]  # a quarter of 5, of 4, of 1
    assert sorted([*training.ids[:, 1].tolist(), 7, 9]) == list(range(10))


def test_latest_split_needs_a_user_with_enough_examples():
    with pytest.raises(DataError, match=r"must hold 6 examples or more of a user\. Found: at most 2"):
        of_users([1, 2, 3, 1]).split_latest("user", validation=0.1)


def test_split_keeps_numbers_with_their_examples():
    whole = examples([0, 1] * 20)
    whole = dataclasses.replace(whole, numbers=whole.ids.astype(np.float32))

    for part in whole.split(validation=0.2, seed=0):
        np.testing.assert_array_equal(part.numbers, part.ids)


def test_slots_of_fields_follow_one_another():
    fields = [data.Field("a"), data.Field("b", 3), data.Field("c")]

    assert data.field_slots(fields) == {"a": range(0, 1), "b": range(1, 4), "c": range(4, 5)}


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


def test_batches_of_examples_with_numbers_are_dicts():
    whole = examples([0, 1, 0])
    whole = dataclasses.replace(whole, numbers=whole.ids.astype(np.float32) / 2)

    for dataset in (batches.in_order(whole, 2), batches.shuffled(whole, 2, range(1), seed=0)):
        seen = [(inputs["ids"], inputs["numbers"]) for inputs, _ in dataset.as_numpy_iterator()]
        ids, numbers = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        assert sorted(ids[:, 0]) == [1, 2, 3]
        np.testing.assert_array_equal(numbers, ids / 2)
