import csv
import io

import pytest

from exaranker.errors import InputError
from exaranker.preprocess.pairs.columns import read_columns
from exaranker.preprocess.pairs.sources import open_source
from exaranker.preprocess.pairs.text import InputConfig

NAMES = ("label", "query", "passage")
TEXTS = [("1", 'what is "lgtm"', 'It means "looks good",\tas said.'), ("0", "two\nlines", '"'), ("0", "42", "plain")]


def read(tmp_path, text, names=NAMES, **options):
    path = tmp_path / "pairs.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    return [tuple(record.columns) for record in read_columns(path, names, **options)]


def as_csv(rows, quoting=csv.QUOTE_MINIMAL):
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_columns_that_a_csv_writer_quoted(tmp_path, quoting):
    assert read(tmp_path, as_csv(TEXTS, quoting)) == TEXTS
    plain = [("1", "no quotes", "here")] * 3
    assert read(tmp_path, as_csv([*plain, *TEXTS], quoting)) == [*plain, *TEXTS]


def test_quotes_that_are_text_stay(tmp_path):
    rows = [("1", 'say "hi"', '"Hello"'), ("0", '"quoted whole"', 'it is 5" wide')]
    assert read(tmp_path, "".join("\t".join(row) + "\n" for row in rows)) == rows


def test_quotes_of_both_kinds_are_refused_until_it_is_said_what_they_are(tmp_path):
    text = '1\tplain\ttext\n1\t"a ""b"""\tp\n0\ta "b"\tp\n'
    with pytest.raises(InputError, match=r"pairs.tsv:2: from here on some lines are quoted as CSV is, and others are"):
        read(tmp_path, text)
    assert read(tmp_path, text, quotes="none")[1] == ("1", '"a ""b"""', "p")
    assert read(tmp_path, text, quotes="csv")[1:] == [("1", 'a "b"', "p"), ("0", 'a "b"', "p")]
    with pytest.raises(
        InputError, match=r"pairs.quotes is 'cvs', expected one of auto, csv, none \(did you mean csv\?\)"
    ):
        InputConfig(quotes="cvs")


def test_a_line_that_is_not_csv_in_a_file_that_is(tmp_path):
    with pytest.raises(InputError, match=r"pairs.tsv:2: not quoted as CSV is: .*--gin.pairs.quotes"):
        read(tmp_path, '1\t"a ""b"""\tp\n0\t"a"b\tp\n', quotes="csv")


@pytest.mark.parametrize("header", ["label\tquery\tpassage", "Label\tQuestion\tText"])
def test_a_first_line_of_names(tmp_path, header):
    assert read(tmp_path, f"{header}\n1\tq\tp\n") == [("1", "q", "p")]


def test_names_give_the_order(tmp_path):
    assert read(tmp_path, "\tquery\tpassage\tlabel\n0\tq\tp\t1\n") == [("1", "q", "p")]
    with pytest.raises(InputError, match=r"pairs.tsv:2: expected 4 tab-separated columns, as in the first line, got 3"):
        read(tmp_path, "\tquery\tpassage\tlabel\nq\tp\t1\n")
    triples = ("query", "positive", "negative")
    assert read(tmp_path, "query\tpositive\tnegative\nq\tp\tn\n", triples) == [("q", "p", "n")]


def test_other_orders_and_names_are_told(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("what is a bone\tIt is hard.\t1\n")
    expected = r"pairs.tsv:1: label 'what is a bone' is not an integer \(the columns seem to be query, passage, label"
    with pytest.raises(InputError, match=expected):
        list(open_source(str(path), None, InputConfig()).reader())
    path.write_text("rel\tq\td\n1\tq\td\n")
    with pytest.raises(InputError, match=r"pairs.tsv:1: label 'rel' .*; a first line of names is 'label"):
        list(open_source(str(path), None, InputConfig()).reader())


@pytest.mark.parametrize("name", ["qidpidtriples.train.small.tsv", "triples.train.small.ids.tsv"])
def test_files_of_ids_are_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("100000\t5399011\t4239068\n100007\t5399024\t4239085\n")
    expected = r"tsv:1: these columns are ids, not texts: '100000 5399011 4239068' \(have ir_datasets join them"
    with pytest.raises(InputError, match=expected):
        list(open_source(str(path), None, InputConfig(triples="full")).reader())
    path.write_text("".join(f"{i}\tD{i}\tD{i + 1}\n" for i in range(20)))
    with pytest.raises(InputError, match="these columns are ids"):
        list(open_source(str(path), None, InputConfig(triples="full")).reader())


def test_a_blank_line_is_told(tmp_path):
    with pytest.raises(InputError, match=r"pairs.tsv:2: expected 3 .* got 1: '' \(remove this blank line\)"):
        read(tmp_path, "1\tq\tp\n\n")
