"""Fine-tune Bark on recordings; `--help` says how."""

from hf_bark_semantic.cli.finetune_bark import main

if __name__ == "__main__":
    main()
