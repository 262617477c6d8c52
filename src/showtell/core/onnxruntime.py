"""onnxruntime, imported so that it tells nobody what it does.

Its builds for Linux and macOS send events to Microsoft since 1.32, and keep an identifier in the
home folder, unless ``ORT_DISABLE_TELEMETRY`` is set when it is first imported (its ``Privacy.md``).
The variable is only there while it is imported; one that the user has set stays as it is.
"""

import os

_SWITCH = "ORT_DISABLE_TELEMETRY"

_is_ours = _SWITCH not in os.environ
if _is_ours:
    os.environ[_SWITCH] = "1"
try:
    import onnxruntime
    from onnxruntime import InferenceSession
finally:
    if _is_ours:
        del os.environ[_SWITCH]

__all__ = ["InferenceSession", "onnxruntime"]
