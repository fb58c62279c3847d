-- Park a task that a worker holds: nobody need come for it before a message does, or its time.
-- KEYS  1 the worker's running set (hash)   2 parked (zset)
-- ARGV  1 member   2 the task's place among the parked   3 when it is to run again in any case: server time, ms; 'inf': never
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
return 1
