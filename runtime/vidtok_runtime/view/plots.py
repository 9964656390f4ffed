"""The charts of a study: quality over time, and how the codebook or the latent channels are used."""

from __future__ import annotations

from vidtok_runtime.view.charts import Bar, Chart
from vidtok_runtime.view.study import Study
from vidtok_runtime.view.usage import CodeHistogram, LatentUsage


def charts(study: Study) -> list[tuple[Chart, str]]:
    """The charts with their captions: PSNR over time where there is an original, and the use of codes or channels."""
    shown = []
    if study.psnr.count:
        shown.append((_psnr(study), f"Quality over time; the lowest frame has {study.psnr.least:.2f} dB."))
    if isinstance(study.usage, CodeHistogram):
        caption = "How the tokens spread over the codebook, in ranges of it; dashed: all codes equally often."
        return [*shown, (_codebook(study.usage), caption)]
    caption = "Latents by channel: the bar is the mean and one deviation either way, the thin line all values."
    return [*shown, (_channels(study.usage), caption)]


def _psnr(study: Study) -> Chart:
    curve = study.psnr
    points = curve.points
    values = [value for _, value in points]
    margin = max(0.5, 0.1 * (max(values) - min(values)))
    text = (
        f"PSNR over {curve.count} frames: mean {curve.mean:.2f} dB, lowest frame {curve.least:.2f} dB, "
        f"highest {curve.most:.2f} dB"
    )
    span = (min(values) - margin, max(values) + margin)
    return Chart(text, (0, curve.count - 1), span, "frame", "PSNR, dB", line=points)


def _codebook(usage: CodeHistogram) -> Chart:
    shares = 100 * usage.histogram()
    width = usage.codes / len(shares)
    even, most = 100 / len(shares), float(shares.max())
    text = (
        f"Utilization of the codebook: {usage.used:,} of {usage.codes:,} codes occur. Of the {len(shares)} ranges "
        f"shown the fullest has {most:.2f} percent of the tokens; used evenly, each would have {even:.2f} percent"
    )
    bars = [Bar((i + 0.08) * width, (i + 0.92) * width, 0, share) for i, share in enumerate(shares.tolist())]
    return Chart(text, (0, usage.codes), (0, 1.05 * max(even, most)), "code", "% of tokens", bars, level=even)


def _channels(usage: LatentUsage) -> Chart:
    mean, std = usage.mean.tolist(), usage.std.tolist()
    low, high = float(usage.least.min()), float(usage.most.max())
    text = (
        f"Latents by channel, {len(mean)} channels: means from {min(mean):.2f} to {max(mean):.2f}, standard deviations "
        f"from {min(std):.2f} to {max(std):.2f}, values from {low:.2f} to {high:.2f}"
    )
    bars = []
    for i, (m, s) in enumerate(zip(mean, std, strict=True)):
        bars.append(Bar(i - 0.05, i + 0.05, float(usage.least[i]), float(usage.most[i]), faint=True))
        bars.append(Bar(i - 0.3, i + 0.3, max(low, m - s), min(high, m + s)))
    return Chart(text, (-0.5, len(mean) - 0.5), (low, high), "latent channel", "value", bars, level=0.0)
