"""Stage 3. Measure an encoder on voices and sentences that it was not trained on; see `--help`."""

from hf_bark_semantic.cli.evaluate_encoder import main

if __name__ == "__main__":
    main()
