"""Speculation: tokens guessed ahead, computed along with the newest one, and kept while they are right.

Three ways to guess: what the grammar forces (`Matcher.forced`), what followed the same words before
(`lookup`), what a small model would say (`draft_model`). A guess is a decode token like any other. The engine
then chooses as it always does, place by place, and goes on while the choice is the guess; so the tokens are
those that would have come without it, greedy or drawn, bit for bit.

How far each way goes for a sequence, and whether at all, follows from what a guess costs at this batch size
and how often this way was right of late (`costs`).
"""

from dataclasses import replace

from cairn.engine.block_manager import BlockManager
from cairn.engine.config import EngineConfig
from cairn.engine.costs import FIRST_CHANCE, Costs, Pace
from cairn.engine.draft_model import DraftModel
from cairn.engine.scheduler import ScheduledBatch, ScheduledSequence
from cairn.engine.sequence import DRAFTERS, Drafter, Sequence

_SMOOTHING = 0.02
_NEVER = 1.0


class Speculation:
    """Adds guesses to a step where they pay, and learns from what became of them."""

    def __init__(self, block_manager: BlockManager, config: EngineConfig, model: DraftModel | None) -> None:
        self.block_manager = block_manager
        self.config = config
        self.model = model
        self.costs = Costs()
        self.num_drafted: dict[str, int] = dict.fromkeys(DRAFTERS, 0)
        self.num_accepted: dict[str, int] = dict.fromkeys(DRAFTERS, 0)
        self._chances: dict[Drafter, float] = dict.fromkeys(DRAFTERS, FIRST_CHANCE)

    def guess(self, batch: ScheduledBatch) -> ScheduledBatch:
        """The same step with guesses after its decoding sequences, within budget and free blocks."""
        items = list(batch.items)
        places = [i for i, item in enumerate(items) if item.seq.is_decoding]
        room = self.config.token_budget - batch.num_tokens
        price = self._price(len(places))
        model_price = self._model_price(len(places))
        for i in places:
            items[i] = self._from_text(items[i], room, price, model_price)
            room -= len(items[i].draft)
        if self.model is not None:
            wanting = [i for i in places if not items[i].draft]
            guesses = self.model.propose(self._wanted([items[i].seq for i in wanting], room, model_price))
            for i in wanting:
                items[i] = replace(items[i], draft=guesses.get(items[i].seq, ()), drafter="model")
        return replace(batch, items=tuple(items))

    def rests(self, seqs: list[Sequence]) -> bool:
        """Whether a step of these sequences would get no guesses, whatever their newest tokens are."""
        if self.model is not None:
            return False
        price = self._price(len(seqs))
        return not self.config.lookup_tokens or all(self._pace(seq, "lookup").passes(price) for seq in seqs)

    def rest(self, seqs: list[Sequence]) -> None:
        """Count a step in which nothing was guessed."""
        if self.config.lookup_tokens:
            price = self._price(len(seqs))
            for seq in seqs:
                self._pace(seq, "lookup").length(price)

    def learn(self, item: ScheduledSequence, num_accepted: int) -> None:
        """The first `num_accepted` of a sequence's guesses were right."""
        seq, drafter, num = item.seq, item.drafter, len(item.draft)
        self._pace(seq, drafter).learn(num, num_accepted)
        self.num_drafted[drafter] += num
        self.num_accepted[drafter] += num_accepted
        for hit in [1.0] * num_accepted + [0.0] * (num_accepted < num):
            self._chances[drafter] += _SMOOTHING * (hit - self._chances[drafter])
        # Where a guess of the draft model was wrong, what it has read ends.
        seq.num_draft_tokens = min(seq.num_draft_tokens, item.stop + num_accepted)

    def _price(self, num_seqs: int, seconds: float = 0.0) -> float:
        """The chance from which a guess pays that takes `seconds` besides its place in the step."""
        return (self.costs.per_token + seconds) * num_seqs / max(self.costs.seconds(num_seqs), 1e-9)

    def _model_price(self, num_seqs: int) -> float:
        """The same for the draft model's, which are computed for all sequences together."""
        if self.model is None or not num_seqs:
            return _NEVER
        costs = self.model.costs
        return self._price(num_seqs, costs.seconds(num_seqs) / num_seqs if costs.is_known else 0.0)

    def _from_text(
        self, item: ScheduledSequence, room: int, price: float, model_price: float
    ) -> ScheduledSequence:
        """With guesses that cost nothing to make, if there are any."""
        seq = item.seq
        most = min(room, _num_left(seq))
        drafter: Drafter = "grammar"
        draft = self._forced(seq, most, price)
        if not draft:
            # A guess from the text takes the place of the model's, which may be the better one.
            model = self._pace(seq, "model")
            worth = 0.0 if model.is_resting else model.chance - (model_price - price)
            drafter = "lookup"
            draft = self._found(seq, min(most, self.config.lookup_tokens), max(price, worth))
        if draft and self._reserve(seq, len(draft)):
            return replace(item, draft=draft, drafter=drafter)
        return item

    def _forced(self, seq: Sequence, most: int, price: float) -> tuple[int, ...]:
        if seq.matcher is None or most <= 0:
            return ()
        length = min(most, self._pace(seq, "grammar").length(price))
        return tuple(seq.matcher.fork().forced()[:length]) if length else ()

    def _found(self, seq: Sequence, most: int, price: float) -> tuple[int, ...]:
        length = min(most, self._pace(seq, "lookup").length(price)) if most > 0 else 0
        found = seq.lookup.draft(seq.token_ids, length) if length else ()
        # A token that ends the sequence saves no step by being guessed.
        num = next((i for i, token_id in enumerate(found) if token_id in seq.end_token_ids), len(found))
        if num and seq.matcher is not None:
            num = min(num, seq.matcher.fork().num_allowed(found))
        return found[:num]

    def _wanted(self, seqs: list[Sequence], room: int, price: float) -> dict[Sequence, int]:
        """How many tokens the draft model shall guess for which sequences; blocks for them are taken."""
        assert self.model is not None
        wanted: dict[Sequence, int] = {}
        for seq in seqs:
            most = min(room, _num_left(seq), self.config.draft_tokens, self.model.num_free(seq))
            if most > 0:
                most = min(most, self._pace(seq, "model").length(price))
            if most > 0 and self._reserve(seq, most):
                wanted[seq] = most
                room -= most
        return wanted

    def _reserve(self, seq: Sequence, num: int) -> bool:
        """Give guesses their places in the cache, if there are any."""
        if not self.block_manager.can_append(seq, num):
            return False
        self.block_manager.append(seq, num)
        return True

    def _pace(self, seq: Sequence, drafter: Drafter) -> Pace:
        """How far this way of guessing goes for this sequence; at first as it went for others."""
        if drafter not in seq.paces:
            seq.paces[drafter] = Pace(self._chances[drafter])
        return seq.paces[drafter]


def _num_left(seq: Sequence) -> int:
    """Tokens that may still come after the next one."""
    return seq.max_new_tokens - seq.num_new_tokens - 1
