"""The tables of the comparison, in Markdown.

    Results -> markdown()

Figures are medians of the rounds; ratios are medians of the ratios within each round, with the smallest and largest.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.export.alternation import SIZES
from benchmarks.export.goals import goals
from benchmarks.export.line_up import OPENVINO_INT8, figment
from benchmarks.export.results import Facts, Results
from benchmarks.machine import INSTRUCTIONS
from benchmarks.tables import head, row, spread

MIB = 1024 * 1024


def markdown(results: Results) -> str:
    """All tables of what was measured."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    yield from _conditions(results)
    yield from _contenders(results)
    yield from _ratios(results)
    yield from _alternations(results)
    yield "\n## Goals\n"
    yield from head("what", "goal", "measured", "")
    yield from (row(*goal) for goal in goals(results))


def _conditions(results: Results) -> Iterator[str]:
    machine = results.machine
    lacking = ", ".join(name for name in INSTRUCTIONS if name not in machine.instructions)
    instructions = f"has {', '.join(machine.instructions)}; has not {lacking}"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    peers = "; ".join(
        ", ".join(f"{name} {version}" for name, version in pins.items()) for pins in machine.peers.values()
    )
    samples = [sample for turns in results.turns.values() for turn in turns.values() for sample in turn.good]
    others = median(sample.others_cpu_s / sample.seconds for sample in samples)
    yield f"# One generator, run in several ways, {machine.date}\n"
    yield f"{machine.cpu} ({instructions}), {machine.cores} cores, {results.threads} threads for each; load before"
    yield f"{machine.load_before:.2f}, others took {abs(others):.2f} cores meanwhile (median of all turns);"
    yield f"{machine.system}, Python {machine.python}, {packages}"
    yield f"(commit {machine.commit}); in an environment of their own: {peers}."
    yield f"Run {results.run}, bundle {results.bundle}; {results.rounds} rounds, {results.seconds:g} s a turn.\n"
    yield f"    {machine.command}"


def _contenders(results: Results) -> Iterator[str]:
    yield "\n## CPU microseconds an image, images a second, by batch size\n"
    by_size = [f"{batch}: {what}" for batch in results.turns for what in ("CPU us", "images/s")]
    yield from head("contender", *by_size, "peak MiB", "off eager: worst", "off eager: mean", "note")
    for name, facts in results.contenders.items():
        cells = []
        for turns in results.turns.values():
            turn = turns[name]
            cells += [f"{turn.cpu_us_per_image():.0f}", f"{turn.images_per_s():.0f}"] if turn.good else ["", ""]
        difference = [str(facts.worst_difference), f"{facts.mean_difference:.4f}"]
        note = results.missing.get(name) or _layouts(facts)
        yield row(name, *cells, f"{facts.peak_bytes / MIB:.0f}", *difference, note)
    for name, reason in results.missing.items():
        if name not in results.contenders:
            yield row(name, *[""] * (len(by_size) + 3), reason.replace("|", "/"))
    yield "\nPeaks are of resident memory, with what was loaded to try and to compile; PyTorch holds the weights in two layouts."
    yield "Differences are grey levels (0 to 255) of the same noise's images."


def _layouts(facts: Facts) -> str:
    """Such as "channels_last at 1, 16; contiguous at 64"."""
    forms = dict.fromkeys(form for form in facts.forms.values() if form)
    sizes = {form: ", ".join(str(batch) for batch, chosen in facts.forms.items() if chosen == form) for form in forms}
    return "; ".join(f"{form} at {batches}" for form, batches in sizes.items())


def _ratios(results: Results) -> Iterator[str]:
    ours = [figment(variant) for variant in results.variants]
    others = [name for name in results.contenders if name not in ours]
    yield "\n## CPU an image: others / figment, by batch size (more is better)\n"
    yield from head("ratio", *map(str, results.turns))
    for our in ours:
        for other in others:
            if other == OPENVINO_INT8 and our != figment("int8"):
                continue
            found = results.cpu_ratios(other, our)
            if found:
                yield row(
                    f"{other} / {our}", *(spread(found[batch]) if batch in found else "" for batch in results.turns)
                )


def _alternations(results: Results) -> Iterator[str]:
    if not results.alternations:
        return
    yield "\n## Batch sizes in turns, one session: CPU microseconds an image\n"
    sizes = " and ".join(map(str, SIZES))
    yield from head("graph", *(f"{size} alone" for size in SIZES), f"{sizes} in turns", "in turns / alone")
    for each in results.alternations:
        fixed = [f"{us:.0f}" for us in each.fixed_us.values()]
        yield row(each.name, *fixed, f"{each.in_turns_us:.0f}", spread(each.ratios))
