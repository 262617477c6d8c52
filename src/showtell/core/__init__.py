"""What every other folder uses: devices, memory, processes, files, messages, progress."""
