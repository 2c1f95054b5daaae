"""A model's name that is nothing is refused at once, whoever is asked, with the nearest name; no network is used."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kilter.models import names
from kilter.models.names import check_model_name

LIMIT = 0.5


def check(name: str | Path, **options: Any) -> None:
    check_model_name(name, "a causal model", **options)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Asks whoever listens at a port of this machine, with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(names, "SECONDS", LIMIT)
    names._ask.cache_clear()

    def use(port: int) -> None:
        whole, endpoint = constants.HUGGINGFACE_CO_URL_TEMPLATE, f"http://127.0.0.1:{port}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", whole.replace(constants.ENDPOINT, endpoint))
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)

    return use


@pytest.fixture
def silent(online: Callable[[int], None]) -> Iterator[None]:
    """A hub that takes the call and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        online(server.getsockname()[1])
        yield


@pytest.fixture
def answering(online: Callable[[int], None]) -> Iterator[Any]:
    """A hub that answers `status`, with `reason` as the real one gives it, and counts."""
    hub = SimpleNamespace(status=200, reason="", asked=[])

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            hub.asked.append(self.path)
            self.send_response(hub.status)
            if hub.reason:
                self.send_header("X-Error-Code", hub.reason)
            for name, value in {"X-Repo-Commit": "0" * 40, "ETag": '"1"', "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        online(server.server_port)
        yield hub
        server.shutdown()


@pytest.fixture(params=["recogniser", "text model", "GGUF", "scorer"])
def load(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Everything that loads a model by a name of the user's; the heavy imports are not part of the wait."""
    from kilter.models.recogniser import Recogniser
    from kilter.models.text_decoding import load_scorer
    from kilter.models.text_model import TextModel

    loaders: dict[str, Callable[[str], Any]] = {
        "recogniser": Recogniser.load,
        "text model": TextModel.load,
        "GGUF": lambda name: TextModel.load(f"{name}/weights.gguf"),
        "scorer": lambda name: load_scorer(name, TextModel.__new__(TextModel)),
    }
    return loaders[request.param]


@pytest.mark.parametrize(
    ("run", "option"), [("align-with-purpose", "model"), ("rankgen", "model"), ("rankgen", "generator")]
)
@pytest.mark.usefixtures("silent")
def test_a_run_says_so_before_it_does_anything(run: str, option: str, tmp_path: Path) -> None:
    from kilter.recipes import align_with_purpose, rankgen

    recipe_class = {"align-with-purpose": align_with_purpose, "rankgen": rankgen}[run].RECIPE
    options = {"train_data": "none.csv", "eval_data": "no.csv"} if run == "align-with-purpose" else {}
    started = time.monotonic()
    with pytest.raises(ValueError, match="no-where: not a folder or hub id"):
        recipe_class(**{option: "no-where", **options, "out": tmp_path / "out"}).prepare()
    assert time.monotonic() - started < LIMIT + 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nowhere", "no/where"])
@pytest.mark.usefixtures("silent")
def test_whoever_loads_a_model_waits_for_nobody(load: Callable[[str], Any], name: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=rf"{name}: not a folder or hub id of a .*: there is no such folder"):
        load(name)
    assert time.monotonic() - started < LIMIT + 2, "it tried again and again"


def test_the_limit_is_kept_when_the_hub_says_nothing(silent: None) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"there is no such folder, and the hub .*; go online, or name a folder"):
        check("nowhere")
    assert time.monotonic() - started < LIMIT + 2


def test_the_limit_is_kept_when_not_even_its_address_comes(
    online: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_answer", lambda *_: time.sleep(3) or "")
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"the hub did not answer within 0\.5 s"):
        check("nowhere")
    assert time.monotonic() - started < LIMIT + 1


def test_five_seconds_at_most() -> None:
    assert names.SECONDS <= 5


def test_nobody_there(online: Callable[[int], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    online(port)
    with pytest.raises(ValueError, match="the hub cannot be reached"):
        check("no/where")


@pytest.mark.parametrize(
    ("status", "reason"), [(200, ""), (404, "EntryNotFound"), (403, "GatedRepo"), (403, ""), (429, "")]
)
def test_what_the_hub_has_is_left_to_who_loads_it(answering: Any, status: int, reason: str) -> None:
    answering.status, answering.reason = status, reason
    check("gpt2")
    assert answering.asked == ["/gpt2/resolve/main/config.json"]
    check("gpt2")
    assert len(answering.asked) == 1, "asked once"


@pytest.mark.parametrize(("status", "reason"), [(401, "RepoNotFound"), (404, "RepoNotFound"), (503, "")])
def test_what_the_hub_has_not_is_refused(answering: Any, status: int, reason: str) -> None:
    answering.status, answering.reason = status, reason
    said = r"the hub is out of order \(503\)" if status == 503 else "the hub has no model of that name"
    with pytest.raises(ValueError, match=said):
        check("gtp2")
    assert len(answering.asked) == 1


@pytest.mark.parametrize("name", ["./here", "~/model", "a/b/c", "my-model/", "a--b", "runs\\mine", "", "org/name:main"])
def test_what_can_be_no_id_is_not_asked_for(answering: Any, name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    if name:  # the empty name is the folder one stands in
        with pytest.raises(ValueError, match="there is no such folder, and it is no id like org/name"):
            check(name)
    assert not answering.asked


def test_offline_only_the_cache_is_asked(answering: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="the hub's cache has none of that name, and HF_HUB_OFFLINE forbids"):
        check("org/name")
    kept = tmp_path / "hub" / "models--org--name"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("1" * 40)
    (kept / "snapshots" / ("1" * 40)).mkdir(parents=True)
    (kept / "snapshots" / ("1" * 40) / "config.json").write_text("{}")
    check("org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    check("org/name")
    assert not answering.asked, "what is in the cache is known without asking"


def test_the_nearest_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file in {"my-model": "config.json", "my-mode": "notes.txt", "ranker": "modules.json"}.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / file).touch()
    check(tmp_path / "models" / "my-model")
    for wrong, right in {
        "models/my-modle": str(Path("models/my-model")),
        "./models/rankr": str(Path("models/ranker")),
        "./smolm2": "smollm2",
    }.items():
        with pytest.raises(ValueError, match="did you mean") as said:
            check(wrong, known=["smollm2"])
        assert f"did you mean {right!r}?" in str(said.value), "a folder without a model is no suggestion"
    with pytest.raises(ValueError, match="no such folder") as said:
        check("./nothing/like/it", known=["smollm2"])
    assert "did you mean" not in str(said.value)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="it is a file; name the folder in which the whole model lies"):
        check(tmp_path / "model.safetensors")
