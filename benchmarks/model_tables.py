"""Tables of the default model: how well it predicts, and where it fails."""

from collections.abc import Iterable
from typing import Any, Final

from benchmarks.results import format_interval, make_table, read_results

MODELS: Final = {
    "ridge": "ridge regression on Whisper base, frozen (layer 3, mean and standard deviation)",
    "before": "an earlier model, trained on seven categories of bursts",
    "clips_alone": "the same encoder, layers solved for clips alone, int8",
    "shipped": "**the default model as shipped, int8**",
}
EMODB: Final = "German (EmoDB), each speaker left out of training"


def make_summary() -> str:
    """Make the table of the README: the default model on recordings that it has not learned from."""
    results = read_results("default")
    shipped, ridge, german = results["shipped"], results["ridge"]["bursts"], results["folds"]["joy"]
    bursts, amharic, ratings = shipped["bursts"], shipped["ased"], shipped["tava"]["targets"]

    def count(scored: dict[str, Any]) -> str:
        return f"{scored['clips']}, {scored['speakers']}"

    def compare(name: str, measure: str) -> tuple[str, ...]:
        pair = (format_interval(scored[measure]["mean"]) for scored in (ridge, bursts))
        return ("vocal bursts (EmoGator)", count(bursts), name, *pair)

    def separate(speech: str, scored: dict[str, Any]) -> tuple[str, ...]:
        score = format_interval(scored["happy_against_angry"])
        return speech, count(scored), "AUC of Joy, happy against angry", "-", score

    rows = [
        compare("Pearson, mean of the six", "pearson"),
        compare("AUC, mean of the six", "auc"),
        separate("acted German sentences (EmoDB), each speaker left out of training", german),
        separate("acted Amharic sentences (ASED)", amharic),
        *(
            (
                "acted English sentences (TAVA)",
                "192, 12",
                f"Pearson, {name.lower()}",
                "-",
                format_interval(score),
            )
            for name, score in ratings.items()
        ),
    ]
    header = (
        "recordings | clips, speakers | measure | ridge regression, frozen Whisper base | default model, int8"
    )
    return make_table(header, rows)


def make_default() -> str:
    """Make the scores on bursts of unseen speakers, beside ridge regression and an earlier model."""
    results = read_results("default")
    measures = ("pearson", "auc", "pearson_seven_categories")
    rows = [
        (label, *(format_interval(results[name]["bursts"][measure]["mean"]) for measure in measures))
        for name, label in MODELS.items()
        if name in results
    ]
    header = "model | Pearson, 30 categories | AUC, 30 categories | Pearson, 7 categories, 5 emotions"
    return f"{make_table(header, rows)}\n\n{results['note']} Machine: {results['machine']}."


def make_default_by_emotion() -> str:
    """Make Pearson, AUC and calibration error per emotion of the model as shipped, beside ridge regression."""
    results = read_results("default")
    shipped, ridge = results["shipped"], results["ridge"]["bursts"]
    rows = [
        (
            name,
            *(format_interval(shipped["bursts"][measure]["targets"][name]) for measure in ("pearson", "auc")),
            format_interval(shipped["calibration"]["after"]["targets"][name]),
            *(f"{ridge[measure]['targets'][name]['value']:.3f}" for measure in ("pearson", "auc")),
        )
        for name in shipped["bursts"]["auc"]["targets"]
    ]
    header = "emotion | Pearson [95 %] | AUC [95 %] | calibration error [95 %] | ridge: Pearson | ridge: AUC"
    return make_table(header, rows)


def make_default_intervals() -> str:
    """Make the coverage of the prediction intervals per value, and their mean width."""
    found = read_results("default_intervals")
    rows = [
        (name, f"{found['coverage'][name]:.3f}", f"{found['mean_width'][name]:.2f}")
        for name in found["coverage"]
    ]
    table = make_table("value | coverage | mean width", rows)
    return (
        f"{table}\n\n{found['clips']} bursts of {found['speakers']} speakers; the intervals of each half of them are "
        f"fitted to the other half. Machine: {found['machine']}."
    )


def make_speech() -> str:
    """Make the scores of Joy in acted speech: happy against angry and against all others; neutral speech."""
    results = read_results("default")
    scores = {
        EMODB: results.get("folds", {}).get("joy"),
        "Amharic (ASED), the default model as shipped": results["shipped"]["ased"],
        f"Amharic (ASED), {MODELS['clips_alone']}": results.get("clips_alone", {}).get("ased"),
        "Amharic (ASED), the earlier model": results.get("before", {}).get("ased"),
    }
    rows = []
    for label, score in scores.items():
        if score is None:
            continue
        neutral = score["mean_of_six_of_neutral"]
        rows.append(
            (
                label,
                f"{score['clips']}, {score['speakers']}",
                format_interval(score["happy_against_angry"]),
                format_interval(score["happy_against_rest"]),
                f"{score['joy_of_happy']:.3f}, {score['joy_of_angry']:.3f}",
                "-" if neutral is None else f"{neutral:.3f}",
            )
        )
    header = (
        "speech | clips, speakers | AUC, happy against angry | AUC, happy against the rest | Joy: happy, angry "
        "| mean of the six, neutral"
    )
    return make_table(header, rows)


def make_speech_by_sex() -> str:
    """Make the scores of Joy in acted speech for women and men."""
    results = read_results("default")
    groups = {
        EMODB: results["folds"]["joy"]["by_sex"],
        "Amharic (ASED), speakers that settings were chosen on": results["shipped"]["ased_odd"]["by_sex"],
        "Amharic (ASED), speakers that nothing was chosen on": results["shipped"]["ased"]["by_sex"],
    }
    measures = ("happy_against_angry", "happy_against_rest")
    rows = [
        (label, sex, score["clips"], *(format_interval(score[measure]) for measure in measures))
        for label, by_sex in groups.items()
        for sex, score in by_sex.items()
    ]
    return make_table("speech | sex | clips | AUC, happy against angry | AUC, happy against the rest", rows)


def make_conditions() -> str:
    """Make the scores on bursts recorded badly."""
    conditions: dict[str, Any] = read_results("default")["shipped"]["conditions"]
    rows = (
        (name, format_interval(score["pearson"]), format_interval(score["auc"]))
        for name, score in conditions.items()
    )
    return make_table("condition | Pearson | AUC", rows)


def make_ratings() -> str:
    """Make the scores of V/A/D in acted sentences against crowd ratings, none of them in training."""
    results = read_results("default")
    rows = [
        (
            MODELS[name],
            *(
                format_interval(results[name]["tava"]["targets"][dimension])
                for dimension in ("Valence", "Arousal", "Dominance")
            ),
        )
        for name in ("before", "clips_alone", "shipped")
        if name in results
    ]
    return make_table("model | valence | arousal | dominance", rows)


def make_lengths() -> str:
    """Make the difference between one prediction for a recording and the mean over its windows, by length."""
    lengths = read_results("default")["shipped"]["lengths"]

    def rows() -> Iterable[tuple[str, ...]]:
        for length, differences in lengths.items():
            if isinstance(differences, dict):
                names = differences.keys() - {"six", "V/A/D"}
                largest, name = max((differences[name], name) for name in names)
                six, vad = differences["six"], differences["V/A/D"]
                yield length, f"{six:.3f}", f"{vad:.3f}", f"{largest:.3f} ({name})"

    table = make_table("length | mean of the six | V/A/D | largest of the nine", rows())
    return f"{table}\n\n{lengths['recordings']} recordings, cut or repeated to each length."


def make_novelty() -> str:
    """Make the fraction of synthetic sounds that are marked as unlike the training data."""
    rows = (
        (name, kind["clips"], f"{kind['marked']:.0%}", f"{kind['quartiles'][1]:.2f}")
        for name, kind in read_results("novelty")["kinds"].items()
    )
    return make_table("sound | clips | marked | novelty, median", rows)
