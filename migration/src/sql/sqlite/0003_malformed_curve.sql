NEW.first_period + json_array_length(NEW."values") > CASE (SELECT resolution FROM series WHERE id = NEW.series_id)
       WHEN 'PT15M' THEN 96 WHEN 'PT30M' THEN 48 WHEN 'PT1H' THEN 24 ELSE -1 END
OR NEW.issued_at IS NOT (SELECT issued_at FROM forecast_run WHERE id = NEW.run_id)
-- No string, no object, nothing nested (the first bracket that closes is
-- the last character), no true or false, nothing beyond a double: an
-- exponent of three digits, or so many digits before the point.
OR instr(NEW."values", '"') OR instr(NEW."values", '{')
OR instr(NEW."values", ']') < length(NEW."values")
   AND instr(NEW."values", ']') < length(rtrim(NEW."values", ' ' || char(9, 10, 13)))
OR (instr(NEW."values", 'e') OR instr(NEW."values", 'E')) AND (
       instr(NEW."values", 't') OR instr(NEW."values", 'f')
       OR NEW."values" GLOB '*[eE][0-9][0-9][0-9]*' OR NEW."values" GLOB '*[eE]+[0-9][0-9][0-9]*')
OR length(NEW."values") > 300 AND NEW."values" GLOB '*[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]*'
