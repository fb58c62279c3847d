-- Let an API key be good for nothing from now on; one that was revoked before keeps its time.
-- KEYS  1 API key (hash)
-- ARGV  1 now, in s since the epoch
-- Returns 1, or 0: nothing is kept of it.
if not redis.call('HGET', KEYS[1], 'digest') then
  return 0
end
redis.call('HSETNX', KEYS[1], 'revoked_at', ARGV[1])
return 1
