-- Put a failed task on the list of dead letters, unless it was taken off before.
-- KEYS  1 dead letters (zset)   2 request (string): what took it off, if something did
-- ARGV  1 task id
-- Returns 1 if it is on the list, else 0.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
-- Scored alike, the list is ordered by id, which is by time.
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
