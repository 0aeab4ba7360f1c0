"""Discriminators of waveforms: by periods, by scales and by spectra."""
