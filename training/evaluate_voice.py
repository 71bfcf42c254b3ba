"""Measure how well a Bark speaks and clones voices that no stage was trained on; see `--help`."""

from hf_bark_semantic.cli.evaluate_voice import main

if __name__ == "__main__":
    main()
