"""Hooks: a command or a POST that gets the report; one that fails changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hygge.cli.main import main
from hygge.config.flows import read_flows
from hygge.config.specs import Hook
from hygge.coordinator import hooks
from hygge.coordinator.hooks import content
from hygge.errors import ConfigError
from hygge.model import Report

pytest_plugins = ["tests.servers.chat"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"id": [1, 2, 3]}), "in.parquet")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], flows: str, code: int) -> str:
    Path("flows.yml").write_text(flows)
    capsys.readouterr()
    assert main(["flows.yml", "--inline", "--quiet"]) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_a_command_gets_the_report_of_a_flow_that_is_done(here, capsys):
    run(capsys, """
flows:
  f:
    home: in.parquet
    store: out
    on_failure: touch failed
    on_success: cat > told.json; echo $HYGGE_FLOW $HYGGE_STATUS > words
""", 0)  # fmt: skip
    told = json.loads(Path("told.json").read_text())
    assert (told["flow"], told["status"]) == ("f", "done")
    assert told["report"]["flows"][0]["rows"] == 3
    assert told["text"].startswith("hygge: f: done, 3 rows")
    assert Path("words").read_text() == "f done\n"
    assert not Path("failed").exists()


def test_a_post_tells_of_failed_and_skipped_flows_and_slack_gets_its_own_form(here, chat, capsys):
    url = f"http://127.0.0.1:{chat.server_port}/secret-path"
    run(capsys, f"""
defaults: {{on_failure: ["{url}"]}}
flows:
  gone: {{home: gone.parquet, store: out}}
  after: {{home: in.parquet, store: out2, depends_on: [gone]}}
  slack: {{home: gone.parquet, store: out3, on_failure: {{url: "{url}", form: slack}}}}
""", 1)  # fmt: skip
    by_flow = {each.get("flow", ""): each for each in chat.heard}
    assert set(by_flow) == {"gone", "after", ""}
    assert by_flow["gone"]["report"]["flows"][0]["error"]
    assert "it depends on gone" in by_flow["after"]["text"]
    assert list(by_flow[""]) == ["text"]


def test_a_hook_that_fails_is_said_without_its_secrets_and_changes_nothing(
    here, chat, capsys, monkeypatch
):
    chat.code = 404
    here.joinpath("in.parquet").chmod(0o644)
    monkeypatch.setenv("TOKEN", "secret-token")
    url = f"http://127.0.0.1:{chat.server_port}/secret-path"
    said = run(capsys, f"""
flows:
  f:
    home: in.parquet
    store: out
    on_success: ["echo $TOKEN; echo secret-word | tee /dev/stderr; exit 3", "{url}",
      "http://127.0.0.1:9/secret-path", ./secret-command, ./in.parquet, "kill -9 $$"]
""", 0)  # fmt: skip
    assert "warning: on_success: the command ended with code 3; its output is not shown" in said
    assert "warning: on_success: the POST to 127.0.0.1 failed: the answer has code 404" in said
    assert "there is no such command on this machine (code 127)" in said
    assert "the command may not be run (code 126): make it executable" in said
    assert "the command was ended by signal 9" in said
    assert "refused" in said
    assert "secret" not in said
    assert "secret" not in repr(read_flows("flows.yml"))
    assert pq.read_table("out").num_rows == 3


@pytest.mark.parametrize("code", [301, 302, 303, 307])
def test_a_post_that_is_redirected_is_not_taken_for_done(chat, code):
    chat.code, chat.location = code, f"http://127.0.0.1:{chat.server_port}/secret-elsewhere"
    url = f"http://127.0.0.1:{chat.server_port}/secret-path"
    said = hooks._post(Hook("success", url, "json"), {"text": "x"})
    assert f"the POST to 127.0.0.1 was redirected (code {code})" in said
    assert "name the URL that it leads to" in said
    assert "secret" not in said
    assert len(chat.heard) == 1


def test_a_command_that_does_not_end_is_ended_and_no_url_of_it_is_shown(here, capsys, monkeypatch):
    monkeypatch.setattr("hygge.coordinator.hooks.MOST_S", 0.2)
    flows = "flows: {{f: {{home: in.parquet, store: out, on_success: {}}}}}"
    assert "the command did not end within" in run(capsys, flows.format("sleep 1000 | cat"), 0)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    said = run(capsys, flows.format("'ls https://chat/secret'"), 0)
    assert "ended with code" in said
    assert "secret" not in said


def test_a_flow_of_many_tables_calls_once():
    done = Report("shop.a", "done", rows=2, of="shop")
    told = content("shop", [done, Report("shop.b", "failed", error="no room", of="shop")])
    assert (told["status"], len(told["report"]["flows"])) == ("failed", 2)
    assert told["text"] == "hygge: shop.b: failed: no room"
    assert content("shop", [done, done])["text"] == "hygge: shop: done, 4 rows"


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("{url: 'ftp://secret'}", "'on_failure' has no `url` of http:// or https://"),
        ("{address: 'http://secret'}", "'address' is not a key of 'on_failure'"),
        ("7", "'on_failure' is no command and no URL"),
        ("{url: 'http://secret', form: teams}", "json"),
        ("'https://[secret/x'", "'on_failure' has a URL that no host can be called by"),
        ("{url: 'https://secret:port/x', form: json}", "no host can be called by"),
        ("'https:///secret'", "no host can be called by"),
        ("'https://me:secret@chat/x'", "no host can be called by"),
        ("'https://chat/a secret'", "no host can be called by"),
    ],
)
def test_a_wrong_hook_is_an_error_with_its_line(here, hook, message):
    Path("flows.yml").write_text(
        f"flows:\n  f:\n    home: in.parquet\n    store: out\n    on_failure: {hook}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_flows("flows.yml")
    assert message in str(caught.value)
    assert "flows.yml:5" in str(caught.value)
    assert "secret" not in str(caught.value)
