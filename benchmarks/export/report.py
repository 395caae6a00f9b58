"""The tables of the comparison, in Markdown, and what its figures say to the goals of the export.

    Results -> lines()

Figures are medians of the rounds; ratios are medians of the ratios of CPU an image within each round, with the smallest
and largest. To a goal they are rounded to a hundredth: the rounds differ by more than that.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.export.contenders import EAGER, NAIVE, OPENVINO_INT8, figment
from benchmarks.export.results import SIZES, Facts, Results, in_turns
from benchmarks.shared.machine import INSTRUCTIONS
from benchmarks.shared.report import spread, table, versions

MIB = 1024 * 1024
BY_NAIVE, BY_EAGER = 2.0, 3.0
MOST_DRIFT = 0.01
MOST_IN_TURNS = 1.2


def lines(results: Results) -> Iterator[str]:
    """All tables of what was measured."""
    yield from _conditions(results)
    yield from _contenders(results)
    yield "\n## CPU an image: others / figment, by batch size (more is better)\n"
    yield from table(["ratio", *map(str, results.turns)], _ratios(results))
    if results.alternations:
        yield "\n## Batch sizes in turns, one session: CPU microseconds an image\n"
        sizes = " and ".join(map(str, SIZES))
        columns = ("graph", *(f"{size} alone" for size in SIZES), f"{sizes} in turns", "in turns / alone")
        rows = [
            (name, *(f"{turn.median('cpu_us_per_image'):.0f}" for turn in turns.values()), spread(in_turns(turns)))
            for name, turns in results.alternations.items()
        ]
        yield from table(columns, rows)
    yield "\n## Goals\n"
    yield from table(("what", "goal", "measured", ""), goals(results))


def _conditions(results: Results) -> Iterator[str]:
    machine = results.machine
    lacking = ", ".join(name for name in INSTRUCTIONS if name not in machine.instructions)
    instructions = f"has {', '.join(machine.instructions)}; has not {lacking}"
    peers = "; ".join(map(versions, machine.peers.values()))
    samples = [sample for turns in results.turns.values() for turn in turns.values() for sample in turn.good]
    others = median(sample.others_cpu_s / sample.seconds for sample in samples)
    yield f"# One generator, run in several ways, {machine.date}\n"
    yield f"{machine.cpu} ({instructions}), {machine.cores} cores, {results.threads} threads for each; load before"
    yield f"{machine.load_before:.2f}, others took {abs(others):.2f} cores meanwhile (median of all turns);"
    yield f"{machine.system}, Python {machine.python}, {versions(machine.packages)}"
    yield f"(commit {machine.commit}); in an environment of their own: {peers}."
    yield f"Run {results.run}, bundle {results.bundle}; {results.rounds} rounds, {results.seconds:g} s a turn.\n"
    yield f"    {machine.command}"


def _contenders(results: Results) -> Iterator[str]:
    yield "\n## CPU microseconds an image, images a second, by batch size\n"
    by_size = [f"{batch}: {what}" for batch in results.turns for what in ("CPU us", "images/s")]
    rows = []
    for name, facts in results.contenders.items():
        cells = []
        for turns in results.turns.values():
            turn = turns[name]
            keys = ("cpu_us_per_image", "images_per_s")
            cells += [f"{turn.median(key):.0f}" if turn.good else "" for key in keys]
        off = [str(facts.worst_difference), f"{facts.mean_difference:.4f}"]
        note = results.missing.get(name) or _layouts(facts)
        rows.append([name, *cells, f"{facts.peak_bytes / MIB:.0f}", *off, note])
    for name, reason in results.missing.items():
        if name not in results.contenders:
            rows.append([name, *[""] * (len(by_size) + 3), reason.replace("|", "/")])
    yield from table(["contender", *by_size, "peak MiB", "off eager: worst", "off eager: mean", "note"], rows)
    yield "\nPeaks are of resident memory, with what was loaded to try and to compile; PyTorch holds the weights in two layouts."
    yield "Differences are grey levels (0 to 255) of the same noise's images."


def _layouts(facts: Facts) -> str:
    """Such as "channels_last at 1, 16; contiguous at 64"."""
    forms = dict.fromkeys(form for form in facts.forms.values() if form)
    sizes = {form: ", ".join(str(batch) for batch, chosen in facts.forms.items() if chosen == form) for form in forms}
    return "; ".join(f"{form} at {batches}" for form, batches in sizes.items())


def _ratios(results: Results) -> Iterator[list[str]]:
    ours = [figment(variant) for variant in results.variants]
    others = [name for name in results.contenders if name not in ours]
    for our, other in ((our, other) for our in ours for other in others):
        found = results.cpu_ratios(other, our)
        if found and not (other == OPENVINO_INT8 and our != figment("int8")):
            yield [f"{other} / {our}", *(spread(found.get(batch, [])) for batch in results.turns)]


def goals(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """What, the goal, what was measured, whether it is met."""
    ours = [figment(variant) for variant, file in results.variants.items() if _is_close(results.drift.get(file, {}))]
    by_naive = results.cpu_ratios(NAIVE, figment("fp32"))
    never_slower = {batch: ("", median(values)) for batch, values in by_naive.items()}
    yield _at_each("fp32 never slower: naive export / fp32", 1.0, never_slower)
    yield _at_each("best variant: naive export / it", BY_NAIVE, results.best(NAIVE, ours))
    yield _at_each("best variant: torch eager / it", BY_EAGER, results.best(EAGER, ours))
    for file, drift in results.drift.items():
        measured = ", ".join(f"{measure} {value:+.2%}" for measure, value in drift.items())
        yield f"drift of {file}", f"<= {MOST_DRIFT:.0%}", measured, _met(_is_close(drift)) if drift else "unknown"
    for name, turns in results.alternations.items():
        ratio = round(median(in_turns(turns)), 2)
        what = f"{name}: {SIZES[0]} and {SIZES[1]} in turns / each by itself"
        yield what, f"<= {MOST_IN_TURNS}", f"{ratio:.2f}", _met(ratio <= MOST_IN_TURNS)


def _at_each(what: str, least: float, found: dict[int, tuple[str, float]]) -> tuple[str, str, str, str]:
    """A ratio that must reach `least` at every batch size."""
    measured = [f"{ratio:.2f}{f' ({name})' if name else ''} at {batch}" for batch, (name, ratio) in found.items()]
    met = [str(batch) for batch, (_, ratio) in found.items() if round(ratio, 2) >= least]
    verdict = f"met at {', '.join(met)} only" if 0 < len(met) < len(found) else _met(bool(met))
    return what, f">= {least:g}", ", ".join(measured), verdict if found else "unknown"


def _is_close(drift: dict[str, float]) -> bool:
    """Whether a variant's images are as good as the fp32 graph's; only such a variant can be the best."""
    return all(abs(each) <= MOST_DRIFT for each in drift.values())


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"
