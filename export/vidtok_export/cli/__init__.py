"""`vidtok-export`: parse and call."""

from __future__ import annotations

from vidtok_export.cli.convert import convert
from vidtok_export.cli.export import main
from vidtok_export.cli.measure import quantize, verify
from vidtok_export.cli.metric import metric
from vidtok_export.cli.servers import ovms, triton

__all__ = ["main"]

for _command in (verify, quantize, convert, triton, ovms, metric):
    main.add_command(_command)
