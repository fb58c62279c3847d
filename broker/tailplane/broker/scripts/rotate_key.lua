-- Give an API key another secret, unless somebody else has done so since it was read, or it was revoked.
-- KEYS  1 API key (hash)
-- ARGV  1 digest of the secret that it has   2 digest of the new one   3 digests of those before and until when each is
--       good (msgpack)
-- Returns 1, or 0: it is not as it was read.
if redis.call('HGET', KEYS[1], 'digest') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'revoked_at') then
  return 0
end
redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'previous', ARGV[3])
return 1
