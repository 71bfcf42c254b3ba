"""Fine-tune Bark on recordings; see `--help`."""

from hf_bark_semantic.cli.finetune_bark import main

if __name__ == "__main__":
    main()
