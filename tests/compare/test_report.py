"""The HTML report in a real browser: offline, sortable, switchable, by keyboard, on a phone, in the dark."""

import json

import pytest

from segcli.compare import ranking
from segcli.compare.curves import add_time_to_score
from segcli.compare.intervals import Pair
from segcli.compare.report import recipe_differences, write_report
from segcli.compare.rows import collect
from segcli.core.dataset_info import DatasetInfo
from segcli.core.recipe.recipe import Recipe
from segcli.data.dataset import Dataset
from segcli.predictions.coco_results import ResultsWriter
from segcli.types import Instances, Prediction


@pytest.fixture
def runs(fake_run, tiny_dataset):
    """Three finished runs on the tiny dataset: one predicts the labels, one half of them, one nothing."""
    info = DatasetInfo.load(tiny_dataset)
    dataset = Dataset(tiny_dataset, "val")
    out = []
    for name, share, ap in [("exact", 1.0, 0.9), ("half", 0.5, 0.4), ("nothing <b>", 0.0, 0.0)]:
        run = fake_run(name, gflops=1 + 9 * share, metrics={"segm_AP": ap, "bbox_AP": ap})
        changes = {"data.root": str(tiny_dataset), "train.epochs": 1, "train.seed": int(10 * share)}
        recipe = Recipe.load(run / "recipe.yaml", changes)
        (run / "recipe.yaml").write_text(recipe.to_yaml())
        environment = {"dataset": info.to_json(), "weights": [{"source": "w", "licence": "CC-BY-4.0"}], "torch": "2"}
        (run / "environment.json").write_text(json.dumps(environment))
        scores = json.loads((run / "metrics.json").read_text())
        scores["per_class"] = {"cat": {"segm_AP": ap}, "dog": {"segm_AP": ap / 2}}
        (run / "metrics.json").write_text(json.dumps(scores))
        log = [{"step": s, "seconds": 60.0 * s, "loss": 3 / s} for s in (1, 2)]
        log += [{"step": 2, "seconds": 120.0, "metrics": {"segm_AP": ap}}]
        (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
        with ResultsWriter(run / "predictions" / "val.json", info) as writer:
            for i, name in enumerate(dataset.file_names):
                found = dataset.encoded_target(i).instances
                found = found[: round(share * len(found))]
                found = Instances(found.boxes, found.labels, found.labels.float() * 0 + 0.8, masks=found.masks)
                writer.add(Prediction(dataset.image_ids[i], dataset.sizes[i], found), name)
        out.append(run)
    return out


def report(items, path):
    rows, failed = collect(items, print)
    assert not failed
    groups = ranking.rank(rows)
    add_time_to_score(groups)
    return write_report(groups, path)


def names(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('#table tbody th')].map(e => e.textContent.trim())")


def test_every_main_score_stands_before_the_costs(runs, tmp_path):
    report(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    titles = [column["title"].replace("\n", " ") for column in data["groups"][0]["table"]["columns"]]
    assert titles[:4] == ["name", "mask AP", "box AP", "GFLOPs"]


def test_the_report_works_in_a_browser_without_a_network(browser, runs, tmp_path):
    page = tmp_path / "a report.html"
    assert report(runs, page) == []
    browser.complaints()
    browser.open(page, 1200, 900)
    assert browser.complaints() == []
    titles = browser.run("return [...document.querySelectorAll('h2')].map(e => e.textContent)")
    assert titles == [
        *("Cost and score", "Score against cost", "Class by class", "Where they disagree", "Training"),
        *("Costs part by part", "Where the recipes differ", "Environment and licences"),
    ]
    assert "CC-BY-4.0" in browser.run("return document.getElementById('environment').textContent")
    # plots: a point for each row
    browser.run("return new Promise((done) => setTimeout(done, 500))")
    assert browser.run("return document.querySelectorAll('#plot .points path').length") == 3
    # the table sorts by keyboard, and says so to screen readers
    assert [n.lstrip("★ ") for n in names(browser)] == ["exact", "half", "nothing <b>"]
    browser.run("[...document.querySelectorAll('#table th button')].find(b => b.textContent == 'GFLOPs').focus()")
    browser.press("\ue007")
    assert [n.lstrip("★ ") for n in names(browser)] == ["nothing <b>", "half", "exact"]
    order = "return document.querySelector('#table th[aria-sort]').getAttribute('aria-sort')"
    assert browser.run(order) == "ascending"
    # switching a model off takes it out of table, plot and pictures
    panels = "return document.querySelectorAll('#images .case:first-of-type figure').length"
    assert browser.run(panels) == 4
    browser.run("document.querySelectorAll('.bar input')[1].click()")
    assert len(names(browser)) == 2
    assert browser.run(panels) == 3
    assert browser.run("return document.querySelectorAll('#plot .points path').length") == 2
    # masks off, score threshold above every detection
    assert browser.run("return document.querySelectorAll('#images .mask').length") > 0
    browser.run(
        "const s = document.querySelector('input[type=range]'); s.value = 0.95; s.dispatchEvent(new Event('input'))"
    )
    figures = "return [...document.querySelectorAll('#images .case:first-of-type figure')]"
    labels, *predicted = browser.run(f"{figures}.map(f => f.querySelectorAll('.mask').length)")
    assert labels > 0
    assert predicted == [0, 0]
    # zoom by keyboard; Esc closes
    browser.run("document.querySelector('#images figure button').focus()")
    browser.press("\ue007")
    width = "return Number(document.querySelector('dialog .look').getAttribute('viewBox').split(' ')[2])"
    before = browser.run(width)
    browser.press("+")
    assert browser.run(width) == pytest.approx(before / 1.5)
    browser.press("\ue00c")
    # its "close" event comes a moment after the key
    gone = "const look = () => document.querySelector('dialog') ? setTimeout(look, 20) : done(null); look()"
    assert browser.run(f"return new Promise(done => {{ {gone} }})") is None
    assert browser.complaints() == []


def test_a_pair_is_shown_with_the_sign_of_its_caption(browser, runs, tmp_path):
    rows, _ = collect(runs[:2], print)
    groups = ranking.rank(rows)
    pair = Pair("exact", "half", "segm_AP", 0.5, (0.4, 0.6), significant=True)
    add_time_to_score(groups)
    write_report(groups, tmp_path / "r.html", pairs=[pair], verdicts=["exact is better"])
    browser.open(tmp_path / "r.html", 1200, 900)
    shown = browser.run("return document.querySelector('[aria-label^=Every]').closest('details').textContent")
    assert "a − b" in shown
    assert "exacthalfmask AP50.040.0 to 60.0yes" in shown.replace("\n", " ").replace("mask  AP", "mask AP")


@pytest.mark.parametrize("dark", [False, True])
def test_it_reads_on_a_phone_and_in_the_dark(browser, runs, tmp_path, dark):
    report(runs, tmp_path / "r.html")
    browser.open(tmp_path / "r.html", 390, 844, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") == 390, "the page scrolls sideways"
    ink, paper = browser.run(
        "const c = (e, k) => getComputedStyle(e)[k].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);"
        "return [c(document.body, 'color'), c(document.body, 'backgroundColor')]"
    )
    assert (ink > paper + 400) if dark else (paper > ink + 400)
    controls = "return [...document.querySelectorAll('button, select, label')].filter(e => e.offsetHeight)"
    assert browser.run(f"{controls}.filter(e => e.offsetHeight < 18).map(e => e.textContent)") == []
    browser.run("document.querySelector('header button').click()")
    now = browser.run("return document.documentElement.dataset.theme")
    assert now == ("light" if dark else "dark")


def test_the_file_loads_nothing_and_a_name_cannot_break_out(runs, tmp_path):
    report(runs, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    head, data = text.split('<script type="application/json" id="data">')
    assert "default-src 'none'" in head
    assert "<" not in data.split("</script>")[0]
    assert not [tag for tag in ("<link", "<iframe", " src=") if tag in head]
    document = json.loads(data.split("</script>")[0])
    first = document["groups"][0]["pictures"]["images"][0]
    assert [p["row"] for p in first["panels"]] == ["instances", 0, 1, 2]
    assert first["panels"][0]["objects"][0]["path"].startswith("M")


def test_a_class_name_cannot_break_out(runs, tmp_path):
    evil = "</script><script>alert(1)</script>"
    for run in runs:
        for file in (run / "environment.json", run / "metrics.json"):
            file.write_text(file.read_text(encoding="utf-8").replace('"cat"', json.dumps(evil)), encoding="utf-8")
    report(runs, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert evil not in text
    assert "<script>alert" not in text
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert evil in json.dumps(json.loads(data)), "it is shown, as text"


def test_images_come_with_the_most_disagreement_first_and_recipes_with_what_differs(runs, tmp_path):
    report(runs[:2], tmp_path / "r.html")
    data = (tmp_path / "r.html").read_text().split('id="data">')[1].split("</script>")[0]
    group = json.loads(data)["groups"][0]
    values = [image["disagreement"] for image in group["pictures"]["images"]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0
    rows, _ = collect(runs[:2], print)
    assert recipe_differences(rows) == [["train.seed", "10", "5"]]


def test_time_to_the_score_that_all_reach(runs):
    log = [(10.0, 0.2), (20.0, 0.5), (30.0, 0.9)]
    entries = [{"step": i, "seconds": s, "metrics": {"segm_AP": v}} for i, (s, v) in enumerate(log)]
    (runs[0] / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    rows, _ = collect(runs[:2], print)
    groups = ranking.rank(rows)
    add_time_to_score(groups)
    assert {r.name: r.time_to_score["seconds"] for r in groups[0]} == {"exact": 20.0, "half": 120.0}
    assert groups[0][0].time_to_score["score"] == 0.4


def test_missing_predictions_and_other_data_are_said_and_the_rest_is_shown(runs, tmp_path):
    (runs[0] / "predictions" / "val.json").write_text("[{")
    (runs[1] / "predictions" / "val.json").unlink()
    notes = report(runs, tmp_path / "r.html")
    assert len(notes) == 2
    assert "exact: not among the pictures: " in notes[0]
    assert "not valid JSON" in notes[0]
    assert "half" in notes[1]


def test_the_report_names_no_winner_of_unequal_work(browser, runs, tmp_path):
    for run, gflops in zip(runs, (31_000.0, 10_000.0, 12_000.0), strict=True):
        cost = json.loads((run / "cost.json").read_text())
        cost |= {"train_gflops": gflops, "train_steps": 50, "train_cpu_seconds": 540.0}
        (run / "cost.json").write_text(json.dumps(cost))
    page = tmp_path / "report.html"
    report(runs, page)
    browser.complaints()
    browser.open(page, 1400, 900)
    browser.run("return new Promise((done) => setTimeout(done, 500))")
    assert browser.complaints() == []
    said = "return document.getElementById('plot').textContent"
    assert "No Pareto front" in browser.run(said)
    lines = "return document.querySelectorAll('#plot .lines path.js-line').length"
    assert browser.run(lines) == 0
    header = "return [...document.querySelectorAll('#table th')].map(e => e.textContent)"
    assert "training\nTFLOPs" in browser.run(header)
    assert [n for n in names(browser) if n.startswith("★")] == ["★ half", "★ nothing <b>"]
    assert "no other row of like training has" in browser.run("return document.getElementById('table').textContent")
    # against the work itself, runs of any length can be read together
    choose = "const s = document.querySelector('#plot select'); s.value = 'train_gflops'; "
    browser.run(choose + "s.dispatchEvent(new Event('change'))")
    assert "Dashed: the Pareto front" in browser.run(said)
    assert browser.run(lines) == 1
    browser.run("[...document.querySelectorAll('.chip input')][0].click()")  # without the long run, the rest is equal
    browser.run("document.querySelector('#plot select').value = 'gflops'")
    browser.run("document.querySelector('#plot select').dispatchEvent(new Event('change'))")
    assert "Dashed: the Pareto front" in browser.run(said)


def test_runs_of_earlier_versions(fake_run, tmp_path):
    """Of operators without a formula they stored name and calls; a licence may be missing."""
    run = fake_run("old", parts={"head": {"params": 3, "gflops": 1}}, flops_uncounted=[{"op": "aten.max", "calls": 3}])
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"weights": [{"source": "mine.pth"}]}))
    report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "that compute: aten.max ×3. Latency" in text
    assert "mine.pth: licence unknown" in text
