"""What is said when settings are wrong: all of them, by their names in the file."""

from pathlib import Path

from pydantic import ValidationError

from showtell.config.decoder import DECODER_KINDS
from showtell.errors import unknown_name


def describe(error: ValidationError, path: Path | None) -> str:
    parts = []
    for item in error.errors():
        # pydantic names the kind of decoder after "decoder"; there is none such in the file.
        place = [part for part in item["loc"] if part not in DECODER_KINDS]
        name = ".".join(str(part) for part in place)
        if item["type"] == "extra_forbidden":
            parts.append(f"{name}: no such setting")
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            message = str(item["ctx"]["error"])  # of several settings together; it names them
            parts.append(f"{name}: {message}" if name else message)
        elif item["type"] == "value_error":
            parts.append(f"{name} = {item['input']!r}: {item['ctx']['error']}")
        elif item["type"] == "union_tag_invalid":
            kind = item["ctx"]["tag"]
            parts.append(f"{name}.kind: {unknown_name('decoder', kind, DECODER_KINDS)[:-1]}")
        else:
            parts.append(f"{name} = {item['input']!r}: {item['msg'].lower()}")
    where = f" in {path}" if path else ""
    return f"wrong settings{where}: " + "; ".join(parts)
