"""Tables as NumPy, pandas, R and people write them: which columns are what, and the line that says so."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scorefield.data import ArrayDataset, Table, read

ROWS = np.array([[0.5, 1.5, -2.0], [1.25, 0.0, 3.0], [2.0, -1.0, 4.5]])


def text(*head, sep=","):
    return "\n".join([*head, *(sep.join(map(str, row)) for row in ROWS.tolist())]) + "\n"


def table(tmp_path, content, name="a.csv", **options):
    (tmp_path / name).write_text(content)
    return read(tmp_path / name, table=Table(**options))


def parquet(tmp_path, table, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), tmp_path / "a.parquet")
    return read(tmp_path / "a.parquet", table=Table(**options))


# what is in the file: the columns that it has, and what is said beside the rows
HEADS = {
    "none, as numpy.savetxt writes with a comma": (text(), {}, "0 1 2", "names in the first line.*header true"),
    "none, as numpy.savetxt writes": (text(sep=" "), {}, "0 1 2", "header true"),
    "several spaces, as it aligns": ("  0.5   1.5 -2\n 1.25   0   3\n    2  -1   4.5\n", {}, "0 1 2", "header true"),
    "numpy.savetxt's own": (text("# a b c", sep=" "), {}, "a b c", None),
    "after remarks": (text("# made today", "# a,b,c"), {}, "a b c", "left: 1 line before the names"),
    "remarks alone": (text("# made today"), {}, "0 1 2", "left: 1 line before the names"),
    "counted, as DataFrame(array) writes": (text("0,1,2"), {}, "0 1 2", "a row in the first line.*header false"),
    "counted, and said to be": (text("0,1,2"), {"header": True}, "0 1 2", None),
    "numbers that are names": (text("400,410,420"), {"header": True}, "400 410 420", None),
    "semicolons": (text("a;b;c", sep=";"), {}, "a b c", None),
    "row names, as R writes": ("a,b\n" + text(), {}, "a b", "left: column '': the row numbers of pandas"),
    "a comma behind each line": ("a,b,c,\n" + text().replace("\n", ",\n"), {}, "a b c", "left: column ''"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_columns_are_found(kind, tmp_path):
    content, options, names, said = HEADS[kind]
    data = table(tmp_path, content, **options)
    assert isinstance(data.how, Table) and list(data.how.columns) == names.split()
    wanted = ROWS[:, 1:] if "R writes" in kind else ROWS
    assert np.array_equal(data.x.numpy(), wanted)
    found = str(data.found)
    assert found.startswith(f"3 rows of {len(wanted[0])} columns ({', '.join(names.split())}), real numbers")
    assert ("left" in found or "or else" in found) == (said is not None)
    if said:
        assert re.search(said, found), found
    again = read(tmp_path / "a.csv", table=data.how)  # as a model reads them
    assert torch.equal(again.x, data.x) and again.how == data.how


def test_a_first_line_that_may_be_names_is_asked_about(tmp_path):
    with pytest.raises(ValueError, match=r"400, 410, 420, may name the columns or be a row: .*header true or false"):
        table(tmp_path, text("400,410,420"))
    assert len(table(tmp_path, text("400,410,420"), header=False)) == 4
    assert len(table(tmp_path, "0,1,2\n3,4,5\n", header=False)) == 2
    assert len(table(tmp_path, "1,2,3\n3,4,5\n")) == 2  # all are whole numbers: no scale


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_numbers_of_pandas_are_left_and_said(name, tmp_path):
    content = f"{name},x\n0,1.5\n1,2.5\n"
    data = table(tmp_path, content)
    assert data.x.tolist() == [[1.5], [2.5]]
    assert str(data.found) == (
        f"2 rows of column x, real numbers; left: column {name or chr(39) * 2}: the row numbers of pandas"
    )
    if name:
        assert table(tmp_path, content, columns=["x", name]).x.tolist() == [[1.5, 0.0], [2.5, 1.0]]


@pytest.mark.parametrize("named", [None, "time"])
def test_the_index_of_pandas_is_left_of_parquet(named, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1.5, 2.5]}, index=pd.Index([7, 9], name=named))
    frame.to_parquet(tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.x.tolist() == [[1.5], [2.5]] and "the row numbers of pandas" in str(data.found)
    if named:
        assert read(tmp_path / "a.parquet", table=Table(columns=["x", "time"])).x.tolist() == [[1.5, 7], [2.5, 9]]


def test_columns_that_count_the_rows_are_said(tmp_path):
    data = table(tmp_path, "id,x\n" + "".join(f"{k},{k % 3}\n" for k in range(10, 30)))
    assert str(data.found).endswith("or else row numbers in column id: --reading.table.without id")
    assert "row numbers" not in str(table(tmp_path, "id,x\n0,3\n1,2\n3,4\n").found)


def test_columns_are_left_out_by_name(tmp_path):
    content = "a,b,c,kind\n1,x,3,u\n4,y,6,v\n"
    data = table(tmp_path, content, without=["b"], cond=["c"], label="kind")
    assert data.x.tolist() == [[1.0], [4.0]]
    assert str(data.found) == (
        "2 rows of column a, real numbers; 2 classes by column kind: u, v; conditions in column c; "
        "left: column b: not asked for"
    )
    assert data.how == Table(columns=("a",), label="kind", cond=["c"], header=True)
    with pytest.raises(ValueError, match="has no column d"):
        table(tmp_path, content, without=["d"])


FLAGS = "x,on\n1,True\n2,false\n3,TRUE\n"


def test_flags_are_one_and_zero(tmp_path):
    pa = pytest.importorskip("pyarrow")
    flags = pa.array([True, False, True])
    for data in (table(tmp_path, FLAGS), parquet(tmp_path, {"x": [1.0, 2.0, 3.0], "on": flags})):
        assert data.x.tolist() == [[1, 1], [2, 0], [3, 1]]
        assert str(data.found).endswith("true and false as 1 and 0 in column on")


def test_decimals_are_numbers(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from decimal import Decimal

    column = pa.array([Decimal("1.25"), Decimal("-3.50")], pa.decimal128(6, 2))
    assert parquet(tmp_path, {"x": column}).x.tolist() == [[1.25], [-3.5]]


HOLE, WORD = "fill or drop such rows.*--reading.table.without b", "without b.*--reading.table.label b"
REFUSED = {  # the column b
    "empty": ("", f"line 3: column b holds '', no value: {HOLE}"),
    "NA": ("NA", f"line 3: column b holds 'NA', no value: {HOLE}"),
    "nan": ("nan", f"line 3: column b holds 'nan', no value: {HOLE}"),
    "a question mark": ("?", f"holds '\\?', no value: {HOLE}"),
    "a word": ("male", f"line 3: column b holds 'male', not a number: .*{WORD}"),
    "a date": ("2020-01-31", f"holds '2020-01-31', not a number: .*{WORD}"),
    "a decimal comma": ('"1,5"', "holds '1,5', a decimal comma: write numbers with points"),
    "infinity": ("inf", f"holds 'inf', not a number: .*{WORD}"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_number_has_its_right_word(kind, tmp_path):
    value, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        table(tmp_path, f"a,b\n1,2\n3,{value}\n")


def arrow(kind):
    import pyarrow as pa

    return {
        "flags with a hole": pa.array([True, None, False]),
        "integers with a hole": pa.array([1, None, 3]),
        "numbers with NaN": pa.array([1.0, float("nan"), 3.0]),
        "words": pa.array(["a", "b", "c"]),
        "categories": pa.array(["a", "b", "a"]).dictionary_encode(),
        "times": pa.array([1, 2, 3], pa.timestamp("s")),
        "large integers": pa.array([1, 2**53 + 1, 3]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("flags with a hole", f"column b has empty or infinite values, the first in row 1: {HOLE}"),
        ("integers with a hole", f"the first in row 1: {HOLE}"),
        ("numbers with NaN", f"the first in row 1: {HOLE}"),
        ("words", f"holds string, not numbers: .*{WORD}"),
        ("categories", f"holds dictionary.*, not numbers: .*{WORD}"),
        ("times", f"holds timestamp.*, not numbers: .*{WORD}"),
        ("large integers", "integers beyond 2.53, which a float64 would round: --reading.table.without b"),
    ],
)
def test_what_is_no_number_in_parquet_has_its_right_word(kind, words, tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=words):
        parquet(tmp_path, {"a": [1.0, 2.0, 3.0], "b": arrow(kind)})


def test_a_table_without_rows_is_empty(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        table(tmp_path, "# a b c\n\n" + "x,y\n")
    assert isinstance(table(tmp_path, "\nx\n5\n7\n"), ArrayDataset)


@pytest.mark.parametrize("kind", ["csv", "decimal"])
def test_integers_that_a_real_number_does_not_hold(kind, tmp_path):
    """Mutant: 9007199254740993 is read as ...992."""
    path = tmp_path / f"a.{'csv' if kind == 'csv' else 'parquet'}"
    for last, fits in ((9007199254740992, True), (9007199254740993, False)):
        if kind == "csv":
            path.write_text(f"a,b\n1,2\n{last},4\n")
        else:
            pq.write_table(pa.table({"a": pa.array([Decimal(1), Decimal(last - fits)]), "b": [2.0, 4.0]}), path)
        if fits:
            assert float(read(path).x[1, 0]) == last - (kind != "csv")
        elif kind == "csv":
            with pytest.raises(ValueError, match=r"holds integers beyond 2\^53, .*--reading.table.without a"):
                read(path)
    if kind == "decimal":
        pq.write_table(pa.table({"a": pa.array([Decimal(1), Decimal(2**53 + 2)]), "b": [2.0, 4.0]}), path)
        with pytest.raises(ValueError, match=r"holds integers beyond 2\^53"):
            read(path)
