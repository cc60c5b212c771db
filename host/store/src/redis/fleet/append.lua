-- Changes the content of a source and appends the change to the log, if the instance holds the lease and the content is at
-- the expected position.
-- KEYS: the lease, the content, the log. ARGV: the instance, the field of a position, the expected position, the next one,
-- the lifetime of content in milliseconds, the length of the log, the source, the message, the number of texts, then keys
-- and texts, then removed keys.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 'not-leader'
end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return 'other-position'
end
local count = tonumber(ARGV[9])
for i = 0, count - 1 do
  redis.call('HSET', KEYS[2], ARGV[10 + 2 * i], ARGV[11 + 2 * i])
end
for i = 10 + 2 * count, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 's', ARGV[7], 'p', ARGV[4], 'm', ARGV[8])
return 'written'
