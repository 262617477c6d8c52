"""What ``showtell report`` makes: one self-contained HTML page about a run, or about several."""
