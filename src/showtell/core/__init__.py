"""The ground that the rest stands on: devices, memory, processes, files, messages, progress."""
