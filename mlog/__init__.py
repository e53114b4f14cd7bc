"""mlog: a personal message log that can prove itself whole."""
