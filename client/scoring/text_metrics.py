"""BLEU, ROUGE and METEOR of texts with one or several references, each from 0 to 100."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from client.scoring.written import Written, words

_ROUGE = ("rouge1", "rouge2", "rougeL")


def bleu(texts: Sequence[Written]) -> float:
    """Return BLEU of all texts together, whatever the case of their letters, as the E2E challenge's script does.

    Papineni et al., ACL 2002; sacrebleu's signature is case:lc|eff:no|tok:13a|smooth:exp.
    """
    from sacrebleu import corpus_bleu

    most = max(len(each.references) for each in texts)
    columns: Any = [[each.references[n] if n < len(each.references) else None for each in texts] for n in range(most)]
    score: float = corpus_bleu([each.text for each in texts], columns, lowercase=True, force=True).score
    return score


def rouge(texts: Sequence[Written]) -> Mapping[str, float]:
    """Return the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, each text's against the reference that is best for it.

    Lin, 2004; words are stemmed, as is usual for SAMSum.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(_ROUGE, use_stemmer=True)
    scores = [scorer.score_multi(each.references, each.text) for each in texts]
    return {name: 100 * fmean(score[name].fmeasure for score in scores) for name in _ROUGE}


def meteor(texts: Sequence[Written]) -> float:
    """Return the mean METEOR of NLTK, Banerjee and Lavie 2005, against the best reference; it needs WordNet.

    METEOR 1.5, the Java program of the E2E challenge, gives other numbers.
    """
    from nltk.translate.meteor_score import meteor_score

    return 100 * fmean(meteor_score([*map(words, each.references)], words(each.text)) for each in texts)


def without_wordnet() -> str | None:
    """Return why METEOR cannot be measured on this machine; None if it can."""
    from nltk.translate.meteor_score import wordnet

    try:
        wordnet.ensure_loaded()  # More than its folder: that may be empty, or copied in part.
    except (LookupError, OSError):
        return (
            "meteor is left out: it needs NLTK's WordNet, which is not on this machine or not whole; where there is a "
            "network, run: python -m nltk.downloader wordnet; or copy its folder to ~/nltk_data/corpora/wordnet"
        )
    return None
