"""The table of classes that `prepare` prints stays readable, and leaves nothing out unsaid."""

from segcli.cli.tables import SHOWN, class_counts


def counted(counts):
    names = [f"class {i}" for i in range(len(counts))]
    per_class = {name: count for name, count in zip(names, counts, strict=True) if count}
    return class_counts({"categories": names, "splits": {"train": {"per_class": per_class}, "val": {"per_class": {}}}})


def test_few_classes_are_all_shown():
    (table,) = counted([3, 0, 5])
    assert table.rows == [["class 0", "3", "0"], ["class 2", "5", "0"]]
    assert counted([3]) == []


def test_of_many_the_most_frequent_are_shown():
    table, rest, _ = counted(list(range(1, 81)))
    assert [row[1] for row in table.rows] == [str(n) for n in range(80, 80 - SHOWN, -1)]
    assert rest == "and 55 rarer classes, down to class 0 with 1 (--json lists all)"


def test_label_maps_have_names():
    assert counted([0, 0]) == ["2 classes: class 0, class 1"]
