-- Park a task that a worker holds: nobody need come for it before a message does, or its time. It keeps its terms; its key
-- has room meanwhile.
-- KEYS  1-5 of shared/terms.lua   6 the worker's running set (hash)   7 parked (zset)
--       then for each queue: due of each class, doorbell
-- ARGV  1 member   2 worker id   3 the task's place among the parked
--       4 when it is to run again in any case: server time, ms; 'inf': never   then for each queue: its name
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled; or names of queues that
-- are needed too.
local refusal = leave(6, ARGV[1], ARGV[2], 8, 5)
if refusal then
  return refusal
end
redis.call('ZADD', KEYS[7], ARGV[4], ARGV[3])
return 1
