"""The machine code of threads that wait for parts of a call, and of the caller that hands them out.

Level: run time; imports no compiler. Out: four functions that release the interpreter lock, so that neither handing
out a part nor its end waits for Python. A helper's memory is a few cache lines that both sides see::

    line 0    state, entry, words, status            line 1 and on    a mutex and two conditions to sleep on

    state     IDLE ---caller---> GIVEN ---helper---> RUNNING ---helper---> IDLE
              IDLE -> ASLEEP, RUNNING -> AWAITED where a side has waited long enough and sleeps; ENDED for good

A helper without a task looks for one for about a tenth of a millisecond before it sleeps: a sleeper is reached within
20 to 100 microseconds, one that looks within one. The caller takes back what no helper has begun when its own part is
done, so a helper that gets no processor costs nothing. On the way both offer their processor to whoever waits for it.

This is a library, and the only LLVM IR here that is written by hand: the ``llvm`` dialect has no atomic operations.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from string import Template

from crosstile.targets import llvm_codegen
from crosstile.targets.host import machine
from crosstile.targets.x86.run import LoadedObject

HELPER_BYTES = 512
"""A line of 64 bytes that is written in turns, then a mutex, a condition for the helper and one for its caller."""
SPIN_CYCLES = 400_000
"""How long a side looks before it sleeps, in steps of the processor's counter: 0.1 to 0.2 ms."""

_PAUSE = {"x86_64": "pause", "aarch64": "isb"}
"""What tells a core that it waits, by the process's architecture."""

_STATES = {"IDLE": 0, "ASLEEP": 1, "GIVEN": 2, "RUNNING": 3, "AWAITED": 4, "ENDED": 5}

_TEXT = Template("""
declare i64 @llvm.readcyclecounter()
declare i32 @sched_yield()
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)

%helper = type { i64, ptr, ptr, i64, [4 x i64], [16 x i64], [16 x i64], [16 x i64], [8 x i64] }

; Whether the state is still %state after looking for SPIN_CYCLES.
define internal i1 @remains(ptr %helper, i64 %state) {
  %begin = call i64 @llvm.readcyclecounter()
  br label %look
look:
  %count = phi i32 [ 0, %0 ], [ %next, %pause ], [ 0, %offer ]
  %found = load atomic i64, ptr %helper acquire, align 8
  %same = icmp eq i64 %found, %state
  br i1 %same, label %pause, label %done
pause:
  call void asm sideeffect "$PAUSE", ""()
  %next = add i32 %count, 1
  %enough = icmp eq i32 %next, 64
  br i1 %enough, label %offer, label %look
offer:
  %ignored = call i32 @sched_yield()
  %now = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %now, %begin
  %late = icmp ugt i64 %spent, $SPIN_CYCLES
  br i1 %late, label %done, label %look
done:
  ret i1 %same
}

; Look, then sleep on %condition, while the state is %state: a sleeper's state is %sleeping.
define internal void @wait(ptr %helper, i64 %state, i64 %sleeping, ptr %condition) {
  %long = call i1 @remains(ptr %helper, i64 %state)
  br i1 %long, label %try, label %done
try:
  %pair = cmpxchg ptr %helper, i64 %state, i64 %sleeping acq_rel acquire
  %sleeps = extractvalue { i64, i1 } %pair, 1
  br i1 %sleeps, label %lie_down, label %done
lie_down:
  %mutex = getelementptr %helper, ptr %helper, i32 0, i32 5
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %asleep
asleep:
  %found = load atomic i64, ptr %helper acquire, align 8
  %still = icmp eq i64 %found, %sleeping
  br i1 %still, label %sleep, label %rise
sleep:
  %woken = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %asleep
rise:
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void
}

; Set the state; wake who sleeps on %condition if it was %sleeping.
define internal void @change(ptr %helper, i64 %state, i64 %sleeping, ptr %condition) {
  %before = atomicrmw xchg ptr %helper, i64 %state acq_rel
  %sleeps = icmp eq i64 %before, %sleeping
  br i1 %sleeps, label %wake, label %done
wake:
  %mutex = getelementptr %helper, ptr %helper, i32 0, i32 5
  %locked = call i32 @pthread_mutex_lock(ptr %mutex)
  %unlocked = call i32 @pthread_mutex_unlock(ptr %mutex)  ; now it sleeps, or has seen the state
  %woken = call i32 @pthread_cond_signal(ptr %condition)
  br label %done
done:
  ret void
}

; Make a helper of zeros.
define void @prepare(ptr %helper) {
  %mutex = getelementptr %helper, ptr %helper, i32 0, i32 5
  %task = getelementptr %helper, ptr %helper, i32 0, i32 6
  %end = getelementptr %helper, ptr %helper, i32 0, i32 7
  %1 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %2 = call i32 @pthread_cond_init(ptr %task, ptr null)
  %3 = call i32 @pthread_cond_init(ptr %end, ptr null)
  ret void
}

; The life of a helper: returns when it is ended.
define void @work(ptr %helper) {
  %task = getelementptr %helper, ptr %helper, i32 0, i32 6
  %end = getelementptr %helper, ptr %helper, i32 0, i32 7
  %entry_place = getelementptr %helper, ptr %helper, i32 0, i32 1
  %words_place = getelementptr %helper, ptr %helper, i32 0, i32 2
  %status_place = getelementptr %helper, ptr %helper, i32 0, i32 3
  br label %idle
idle:
  call void @wait(ptr %helper, i64 $IDLE, i64 $ASLEEP, ptr %task)
  %pair = cmpxchg ptr %helper, i64 $GIVEN, i64 $RUNNING acq_rel acquire
  %has_task = extractvalue { i64, i1 } %pair, 1
  br i1 %has_task, label %run, label %no_task
run:
  %entry = load ptr, ptr %entry_place
  %words = load ptr, ptr %words_place
  %status = call i32 %entry(ptr %words)
  %wide = sext i32 %status to i64
  store i64 %wide, ptr %status_place
  call void @change(ptr %helper, i64 $IDLE, i64 $AWAITED, ptr %end)
  br label %idle
no_task:
  %state = extractvalue { i64, i1 } %pair, 0
  %ends = icmp eq i64 %state, $ENDED
  br i1 %ends, label %done, label %idle
done:
  ret void
}

; End an idle helper.
define void @end(ptr %helper) {
  %task = getelementptr %helper, ptr %helper, i32 0, i32 6
  call void @change(ptr %helper, i64 $ENDED, i64 $ASLEEP, ptr %task)
  ret void
}

; Stage after stage, %entry on each part's words: part p + 1 by helper p, the first and what no helper began here.
; A part's words are %stride bytes behind those of the one before, its stage %stage_place bytes behind their start.
; Returns 0, or the status of a part that failed; no stage begins after that.
define i32 @share(ptr %entry, ptr %words, i64 %stride, i64 %stage_place, i64 %stages, ptr %helpers, i64 %count) {
  %parts = add i64 %count, 1
  br label %stage
stage:
  %s = phi i64 [ 0, %0 ], [ %s_next, %next_stage ]
  %more = icmp slt i64 %s, %stages
  br i1 %more, label %name_stage, label %good
name_stage:
  %n = phi i64 [ 0, %stage ], [ %n_next, %name_stage ]
  %n_at = mul i64 %n, %stride
  %n_place = add i64 %n_at, %stage_place
  %n_stage = getelementptr i8, ptr %words, i64 %n_place
  store i64 %s, ptr %n_stage
  %n_next = add i64 %n, 1
  %n_more = icmp slt i64 %n_next, %parts
  br i1 %n_more, label %name_stage, label %give
give:
  %g = phi i64 [ 0, %name_stage ], [ %g_next, %give_one ]
  %g_more = icmp slt i64 %g, %count
  br i1 %g_more, label %give_one, label %own
give_one:
  %g_next = add i64 %g, 1
  %g_slot = getelementptr ptr, ptr %helpers, i64 %g
  %g_helper = load ptr, ptr %g_slot
  %g_at = mul i64 %g_next, %stride
  %g_words = getelementptr i8, ptr %words, i64 %g_at
  %g_entry_place = getelementptr %helper, ptr %g_helper, i32 0, i32 1
  %g_words_place = getelementptr %helper, ptr %g_helper, i32 0, i32 2
  store ptr %entry, ptr %g_entry_place
  store ptr %g_words, ptr %g_words_place
  %g_task = getelementptr %helper, ptr %g_helper, i32 0, i32 6
  call void @change(ptr %g_helper, i64 $GIVEN, i64 $ASLEEP, ptr %g_task)
  br label %give
own:
  %own_status = call i32 %entry(ptr %words)
  br label %collect
collect:
  %c = phi i64 [ 0, %own ], [ %c_next, %collected ]
  %status = phi i32 [ %own_status, %own ], [ %status_next, %collected ]
  %c_more = icmp slt i64 %c, %count
  br i1 %c_more, label %collect_one, label %next_stage
collect_one:
  %c_next = add i64 %c, 1
  %c_slot = getelementptr ptr, ptr %helpers, i64 %c
  %c_helper = load ptr, ptr %c_slot
  %pair = cmpxchg ptr %c_helper, i64 $GIVEN, i64 $IDLE acq_rel acquire
  %is_mine = extractvalue { i64, i1 } %pair, 1
  br i1 %is_mine, label %instead, label %await
instead:
  %i_at = mul i64 %c_next, %stride
  %i_words = getelementptr i8, ptr %words, i64 %i_at
  %i_status = call i32 %entry(ptr %i_words)
  br label %collected
await:
  %c_end = getelementptr %helper, ptr %c_helper, i32 0, i32 7
  call void @wait(ptr %c_helper, i64 $RUNNING, i64 $AWAITED, ptr %c_end)
  %c_status_place = getelementptr %helper, ptr %c_helper, i32 0, i32 3
  %c_wide = load i64, ptr %c_status_place
  %c_status = trunc i64 %c_wide to i32
  br label %collected
collected:
  %found = phi i32 [ %i_status, %instead ], [ %c_status, %await ]
  %is_good = icmp eq i32 %status, 0
  %status_next = select i1 %is_good, i32 %found, i32 %status
  br label %collect
next_stage:
  %s_next = add i64 %s, 1
  %fails = icmp ne i32 %status, 0
  br i1 %fails, label %bad, label %stage
good:
  ret i32 0
bad:
  ret i32 %status
}
""")


@dataclass(frozen=True)
class WorkerLoop:
    """The functions; all take addresses and release the interpreter lock."""

    prepare: Callable[[int], None]
    """Make a helper of ``HELPER_BYTES`` zeros."""
    work: Callable[[int], None]
    """A helper's life; returns when it is ended."""
    end: Callable[[int], None]
    """End an idle helper."""
    share: Callable[..., int]
    """Entry, words, bytes from part to part, bytes to the stage, stages, helpers and their number; the status."""


@cache
def worker_loop() -> WorkerLoop:
    """The functions, compiled once per process in a few milliseconds."""
    processor = machine("generic")
    architecture = llvm_codegen.triple_of(processor).split("-")[0]
    text = _TEXT.substitute(_STATES, PAUSE=_PAUSE[architecture], SPIN_CYCLES=SPIN_CYCLES)
    code = llvm_codegen.object_code(llvm_codegen.parse(text), processor)
    loaded = LoadedObject([code], ["prepare", "work", "end", "share"])
    address, number = ctypes.c_void_p, ctypes.c_int64
    of_helper = {name: loaded.function(name, None, address) for name in ("prepare", "work", "end")}
    share = loaded.function("share", ctypes.c_int32, address, address, number, number, number, address, number)
    return WorkerLoop(**of_helper, share=share)
