"""What every part of showtell stands on: devices, memory, processes, files, progress."""
