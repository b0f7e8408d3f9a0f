"""Served threads in Redis or Valkey: assistants, threads, messages, runs, steps, events, and who works on which run.

- One slot for each thread: its keys carry the tag `{thread}`, and each change is one script on them. Nothing read
  before a script is trusted inside it, unless it can never change.
- Scripts do not look into JSON: Lua would turn `[]` into `{}` and lose digits. A document stays as it was first
  written; what changes later lies beside it as patches (`documents`), and a reader lays them over it.
- One run at a time: the thread's hash `a` is the run in work, and is there only as long as it is. What a run makes
  lies between its own place in the thread's sequence and the place at which it ended.
- Whoever works on a run holds a *claim* with a *fence*, a word that nobody else has. Each claim replaces the fence, and
  every write of the work is refused without it. A counter would do as long as the store never forgets; a store that
  fails over to a copy that was behind would give the same number out again.
- The lease of a run stands in its hash, where the fence is; the lease set is an index of that, written before the run
  is (*intent first*). So a run that exists is always found by somebody.
- Any script may run twice, and a copy of it may arrive late: commands are sent again when an answer is lost. The
  second time gives the same answer and changes nothing. For deletions this takes a trace of what is gone.
- Nothing has an expiry but the events of runs that have ended. Retention deletes by an index.
- Results are values: what was asked, or a refusal of `results`. StoreAway comes through; the outcome of a write is
  unknown then, and it may be sent again as long as one likes.

Ids are ours and bare here: public ids are made and checked further out. Times are seconds since 1970, from the caller.
"""
