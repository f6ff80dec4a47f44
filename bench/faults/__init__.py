"""What survives when processes crash: kills, simulated schedules, and what is left behind."""
