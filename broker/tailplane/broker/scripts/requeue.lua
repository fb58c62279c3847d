-- Give a task that a worker holds back to its queue, due after a delay. It keeps its terms; its key has room meanwhile.
-- KEYS  1-5 of shared/terms.lua   6 the worker's running set (hash)   then for each queue: due of each class, doorbell
-- ARGV  1 member   2 delay, ms   3 worker id   then for each queue: its name
-- Returns 1, or 0 if the worker holds it no more: a reaper gave it back, or it was cancelled; or names of queues that
-- are needed too.
local refusal, queue, at = leave(6, ARGV[1], ARGV[3], 7, 4)
if refusal then
  return refusal
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local class = read_terms(redis.call('HGET', KEYS[1], ARGV[1]))
give(ARGV[1], queue, class, now + ARGV[2], at)
return 1
