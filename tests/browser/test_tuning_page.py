"""HiPlot's page of a tuning in a real browser: it draws, though it may load nothing."""

from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from sparsight.evaluation.tuning_report import TrialResult, TuningResult, write_hiplot


def test_trials_are_drawn_and_nothing_is_loaded(browser: BrowserContext, tmp_path: Path) -> None:
    trials = [
        TrialResult(number=number, state="complete", value=number / 10, inputs={"rate": 0.1 * number}, epochs={1: 0.1})
        for number in range(12)
    ]
    parameters = {"metric": "valid_loss", "direction": "minimise", "step": "train_autoencoder"}
    result = TuningResult(
        study="digits",
        parameters=parameters,
        fixed={},
        searched=["rate"],
        trials=trials,
        best_number=0,
        importances={},
        model="tuned/1",
    )
    write_hiplot(tmp_path, result)
    page, asked, wrong = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "hiplot.html").as_uri())
    expect(page.get_by_text("12/12")).to_be_visible()
    expect(page.get_by_text("valid_loss").first).to_be_visible()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
