"""`tags:` of the file and of a flow."""

from __future__ import annotations

import pytest

from hygge.config.flows import read_flows
from hygge.errors import ConfigError


def read(tmp_path, top="", own=""):
    (tmp_path / "a.csv").write_text("id\n1\n")
    file = tmp_path / "flows.yml"
    file.write_text(f"{top}\nflows:\n  a:\n    home: a.csv\n    store: out\n{own}")
    return read_flows(file, {"SECRET": "xyz"}).flows[0].tags


def test_a_flow_has_the_files_tags_and_over_them_its_own_as_they_are_written(tmp_path):
    assert read(tmp_path) == {}
    top, own = (
        "tags: {team: shop, since: 2024-01-01}",
        "    tags: {team: lake, cost: 0012, on: yes}\n",
    )
    assert read(tmp_path, top, own) == {
        "team": "lake", "since": "2024-01-01", "cost": "0012", "on": "yes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[a]", "'tags' is a list, not a mapping"),
        ("shop", "not a mapping"),
        ("{hygge_run: a}", "'hygge_run' is no name for a tag"),
        ("{job_submission_id: a}", "no name for a tag"),
        ("{team: [a]}", "the tag 'team' is a list, not a text"),
        ("{team: ''}", "the tag 'team' is"),
        ("{team: '${SECRET}'}", "the tag 'team' has a variable"),
        ("{team: " + "a" * 257 + "}", "more than 256 letters"),
        ("{" + ", ".join(f"t{n}: a" for n in range(21)) + "}", "21 tags, and 20 are possible"),
    ],
)
def test_what_is_no_tag_is_refused_with_its_line(tmp_path, written, said):
    for where in ({"top": f"tags: {written}"}, {"own": f"    tags: {written}\n"}):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, **where)
        assert said in caught.value.message
        assert f"flows.yml:{1 if 'top' in where else 6}: " in caught.value.message
        assert caught.value.hint
        assert "xyz" not in str(caught.value)
